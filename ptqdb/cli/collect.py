"""``ptqdb collect``: quantize networks in every format and store what was measured."""

from enum import StrEnum
from typing import Annotated

import typer

from ptqdb.cli.options import DEFAULT_DATABASE, Database


class Precision(StrEnum):
    """In which precision codes are multiplied."""

    AUTO = "auto"
    FLOAT32 = "float32"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb collect --network AlexNet --number-formats 'INT_*'`")(
        collect
    )


def collect(
    db: Database = DEFAULT_DATABASE,
    network: Annotated[
        list[str] | None,
        typer.Option(help="A network of the embedded study; repeat for several. Default: all."),
    ] = None,
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
    goes on where it was.
    """
    from ptqdb.cli.progress import CollectionProgress
    from ptqdb.collection.sweep import collect as run_collection
    from ptqdb.embedded import embedded_request

    request = embedded_request(
        networks=tuple(network or ()),
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
