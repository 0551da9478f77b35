"""``ptqdb collect``: quantize networks in every format and store the measurements."""

from dataclasses import replace as replace_field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptqdb.cli import completion
from ptqdb.cli.network_options import (
    CELLS,
    IMAGES,
    NETWORK,
    SPEC_HELP,
    Architecture,
    Device,
    ImageColumn,
    Name,
    NetworkOptions,
    NumberFormats,
)
from ptqdb.cli.options import Database, Wait, split_list
from ptqdb.cli.output import OutputFormat, print_rows, prints_to_stderr, say
from ptqdb.cli.resuming import resumes
from ptqdb.defaults import DEFAULT_DATABASE, DEFAULT_PROBE_COUNT, Precision

if TYPE_CHECKING:
    from ptqdb.collection.estimate import Preview
    from ptqdb.collection.plan import CollectionRequest

MOST_NAMES = 6


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb collect --network AlexNet --number-formats 'INT_*'`; "
        "`ptqdb collect --network nets.py:small --checkpoint small.pt --mean 0.5,0.5,0.5 "
        "--std 0.25,0.25,0.25 --dataset cifar10`; `ptqdb collect study.toml --dry-run`"
    )(collect)


def collect(
    context: typer.Context,
    study: Annotated[
        Path | None,
        typer.Argument(help="A TOML file that declares datasets, networks, formats and counts."),
    ] = None,
    db: Database = DEFAULT_DATABASE,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            autocompletion=completion.reference_networks,
            help=f"{SPEC_HELP}; repeat for several. Default: the embedded study's.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    said: NetworkOptions = NetworkOptions(),
    name: Name = None,
    architecture: Architecture = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A folder or files of Parquet, a folder of class folders, an .npz file, "
            "hf://datasets/OWNER/NAME or torchvision:NAME. Default: the embedded study's.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    calibration_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Calibration images, if not those of --dataset.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(help="Evaluate on the first N test images.", min=1, rich_help_panel=IMAGES),
    ] = None,
    calibration: Annotated[
        int | None,
        typer.Option(
            help="Calibrate on the first N training images. Default: at most 1024.",
            min=1,
            rich_help_panel=IMAGES,
        ),
    ] = None,
    image_column: ImageColumn = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of labels, if its name is unusual.", rich_help_panel=IMAGES),
    ] = None,
    dataset_root: Annotated[
        Path | None,
        typer.Option(help="Folder of torchvision's files.", rich_help_panel=IMAGES),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download", help="Let torchvision download its files.", rich_help_panel=IMAGES
        ),
    ] = False,
    number_formats: NumberFormats = None,
    quantized: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Also collect a checkpoint of the network whose weights another method, such as "
            "GPTQ, has quantized and dequantized; repeat for several.",
            rich_help_panel=CELLS,
        ),
    ] = None,
    scopes: Annotated[
        str | None,
        typer.Option(
            help="Also quantize these alone: any of weight,bias,input,layer; layer evaluates the "
            "network once per layer and format.",
            rich_help_panel=CELLS,
        ),
    ] = None,
    device: Device = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="auto multiplies codes in bytes or bfloat16 where that is exact and fast.",
            show_default="auto",
            rich_help_panel=CELLS,
        ),
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(
            metavar="SE",
            help="Stop the evaluation of a cell once the standard error of its loss is at most "
            "this, such as 0.005, or 5 % of the loss. Default: evaluate all images.",
            rich_help_panel=CELLS,
        ),
    ] = None,
    probe: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also run each format on the first N calibration images and compare it with the "
            "float network, without labels; 0: do not.",
            min=0,
            show_default=str(DEFAULT_PROBE_COUNT),
            rich_help_panel=CELLS,
        ),
    ] = None,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="Also measure, with gradients on 64 calibration images, how much noise in each "
            "layer's output moves the float network's decision.",
            rich_help_panel=CELLS,
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete existing results and collect them again.")
    ] = False,
    wait: Wait = 0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the cells, existing results and the estimated time."),
    ] = False,
    output: Annotated[
        OutputFormat, typer.Option("--format", help="Output format of --dry-run.")
    ] = OutputFormat.TABLE,
) -> None:
    """Quantize networks in every number format and store the measurements.

    Without options: the embedded study, five small networks on CIFAR-10. Interrupted? Run the
    same command again; it resumes. Other commands can read the database meanwhile, up to the last
    finished network. Options about a network need exactly one --network; to collect several
    networks of your own, or several datasets, declare them in a study file.
    """
    from ptqdb.collection.declaration import (
        DatasetEntry,
        NetworkEntry,
        StudyDeclaration,
        check_declaration,
        network_entries,
    )
    from ptqdb.collection.study_file import read_study_file
    from ptqdb.errors import UsageError, in_keys, in_options, reword
    from ptqdb.quantization.formats import match_formats

    if not (dry_run or replace):
        resumes(context)
    images_said = DatasetEntry(
        path=dataset,
        calibration_path=calibration_dataset,
        images=images,
        calibration=calibration,
        image_column=image_column,
        label_column=label_column,
        root=dataset_root,
        download=download,
    )
    network_said = said.entry("", name=name, architecture=architecture)
    if quantized:
        from ptqdb.collection.declaration import quantized_checkpoints

        network_said = replace_field(network_said, quantized=quantized_checkpoints(quantized))
    cells_said: dict[str, Any] = {
        "number_formats": None if number_formats is None else match_formats(number_formats),
        "scopes": None if scopes is None else split_list(scopes),
        "device": device,
        "precision": precision,
        "until": until,
        "probe": probe,
        "sensitivity": sensitivity or None,
    }
    cells = {key: value for key, value in cells_said.items() if value is not None}
    if study is None:
        networks = network_entries(tuple(network or ()), network_said)
        declared = StudyDeclaration((images_said,), networks, **cells)
    elif network or cells or images_said != DatasetEntry() or network_said != NetworkEntry(""):
        raise UsageError(
            f"{study} declares networks, images and formats: remove the options for them"
        )
    else:
        declared = read_study_file(study)
    with reword(in_options if study is None else in_keys):
        check_declaration(declared)
        from ptqdb.collection.requests import collection_request  # imports PyTorch

        with prints_to_stderr():
            request = collection_request(declared, anew=replace)
        if dry_run:
            _print_preview(request, db, output)
            return
        if replace:  # given again, it would delete the results so far
            resumes(context, "Run the same command again without --replace to resume.")
        _collect(request, db, wait)


@prints_to_stderr()
def _collect(request: "CollectionRequest", db: Path, wait_s: float) -> None:
    from ptqdb.cli.progress import CollectionProgress
    from ptqdb.study import open_study

    with CollectionProgress() as progress, open_study(db, create=True) as study:
        outcome = study.fill(request, progress, wait_s=wait_s)
    counts = f"{outcome.filled_count} cells filled, {outcome.present_count} already present"
    if request.until is not None and outcome.evaluated_count:
        counts += f", {outcome.image_count / outcome.evaluated_count:.0f} images per cell"
    if outcome.failed_count:
        counts += f", {outcome.failed_count} cannot be evaluated"
    say(f"{db}: {counts}")
    if outcome.failures:
        raise typer.Exit(1)


def _print_preview(request: "CollectionRequest", db: Path, output: OutputFormat) -> None:
    """Print a row per network and scope, and the totals on stderr."""
    from ptqdb.collection.estimate import preview
    from ptqdb.collection.remaining_time import duration

    with prints_to_stderr():
        previews = preview(request, db, say)
    rows = [row for shown in previews for row in _preview_rows(shown, request)]
    print_rows(list(rows[0]), rows, output)
    for shown in previews:
        if shown.failure:
            say(f"{shown.network} would fail: {shown.failure}")
    to_fill = sum(len(shown.missing) for shown in previews)
    present = sum(shown.present for shown in previews)
    evaluated = sum(shown.evaluated_count for shown in previews)
    only = f" ({evaluated} of them lack only their probe)" if evaluated else ""
    seconds = sum(shown.seconds or 0 for shown in previews)
    about = "about" if request.until is None else "at most about"
    say(
        f"{db}: {to_fill} cells to fill{only}, {present} already present, {about} "
        f"{duration(seconds)} on this machine"
    )
    if any(shown.failure for shown in previews):
        raise typer.Exit(1)


def _preview_rows(shown: "Preview", request: "CollectionRequest") -> list[dict[str, object]]:
    rows = []
    for scope in request.scopes:
        missing = [cell.format.name for cell in shown.missing if cell.scope == scope]
        asked = len(request.number_formats)
        cells = asked * shown.layer_count if scope == "layer" else asked
        known = shown.failure is None
        rows.append(
            {
                "network": shown.network,
                "dataset": shown.dataset,
                "images": shown.image_count,
                "calibration": shown.calibration_count,
                "scope": scope,
                "cells": cells if known or scope != "layer" else None,
                "there_already": cells - len(missing) if known else None,
                "to_fill": len(missing) if known else None,
                "formats": _formats(list(dict.fromkeys(missing)), asked),
            }
        )
    return rows


def _formats(names: list[str], asked: int) -> str:
    """The formats to fill; if these are all of many, the first and the last."""
    if len(names) == asked > MOST_NAMES:
        return f"{names[0]} ... {names[-1]}"
    return ", ".join(names)
