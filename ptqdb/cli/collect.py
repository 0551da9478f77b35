"""``ptqdb collect``: quantize networks in every format and store what was measured."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import DEFAULT_DATABASE, Database


class Precision(StrEnum):
    """In which precision codes are multiplied."""

    AUTO = "auto"
    FLOAT32 = "float32"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb collect --network AlexNet --number-formats 'INT_*'`; "
        "`ptqdb collect --network nets.py:small --checkpoint small.pt --mean 0.5,0.5,0.5 "
        "--std 0.25,0.25,0.25`"
    )(collect)


def collect(
    db: Database = DEFAULT_DATABASE,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="A reference network's name, torchvision:NAME, timm:NAME, "
            "package.module:callable or path/file.py:callable; repeat for several. "
            "Default: the embedded study's.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The network's weights: a safetensors or torch file.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights that torchvision or timm publish, by name, such as DEFAULT; or random."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the database calls the network. Default: as the spec.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="What the network is kin to. Default: its name.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="M,M,M", help="The network is fed (x / 255 - mean) / std; one per channel."
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="S,S,S", help="See --mean.")] = None,
    resize: Annotated[
        int | None, typer.Option(help="Resize the images' shorter edge to so many pixels.", min=1)
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Cut a centre square of so many pixels.", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of --weights random. Default: 0.")] = None,
    number_formats: Annotated[
        str, typer.Option(help="Comma-separated names or globs, such as 'INT_*,FLOAT_8_*'.")
    ] = "*",
    images: Annotated[
        int | None, typer.Option(help="Evaluate on the first so many test images.", min=1)
    ] = None,
    calibration: Annotated[
        int | None, typer.Option(help="Calibrate on the first so many training images.", min=1)
    ] = None,
    scopes: Annotated[
        str, typer.Option(help="Also quantize these alone: any of weight,bias,input.")
    ] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[
        Precision,
        typer.Option(help="auto multiplies codes in bfloat16 where that is exact and fast."),
    ] = Precision.AUTO,
    replace: Annotated[bool, typer.Option(help="Collect anew what is there already.")] = False,
) -> None:
    """Quantize networks in every number format and store what was measured.

    Without options: the embedded study, five small networks on CIFAR-10. A stopped collection
    goes on where it was. With one --network, the options from --checkpoint to --seed say more
    of it.
    """
    from ptqdb.cli.progress import CollectionProgress
    from ptqdb.collection.sweep import collect as run_collection
    from ptqdb.preprocessing import channel_values
    from ptqdb.requests import NetworkOptions, embedded_request, networks_of

    options = NetworkOptions(
        checkpoint=checkpoint,
        weights=weights,
        name=name,
        architecture=architecture,
        mean=None if mean is None else channel_values("--mean", mean),
        std=None if std is None else channel_values("--std", std),
        resize=resize,
        crop=crop,
        seed=seed,
    )
    request = embedded_request(
        networks=networks_of(tuple(network or ()), options),
        number_formats=number_formats,
        image_count=images,
        calibration_count=calibration,
        scopes=tuple(scope.strip() for scope in scopes.split(",") if scope.strip()),
        device=device,
        precision=precision.value,
        replace=replace,
    )
    with CollectionProgress() as progress:
        outcome = run_collection(request, db, progress)
    typer.echo(
        f"{db}: {outcome.filled_count} cells filled, {outcome.present_count} were there already",
        err=True,
    )
    if outcome.failures:
        raise typer.Exit(1)
