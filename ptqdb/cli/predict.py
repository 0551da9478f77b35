"""``ptqdb predict``: predict a network's loss in each number format."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ptqdb.cli import completion
from ptqdb.cli.network_options import (
    IMAGES,
    NETWORK,
    SPEC_HELP,
    Device,
    ImageColumn,
    NetworkOptions,
    NumberFormats,
)
from ptqdb.cli.options import Coverage, Format, LeaveOutOption, ReadDatabase
from ptqdb.cli.output import OutputFormat, print_rows, prints_to_stderr, say
from ptqdb.cli.reading import open_reader
from ptqdb.defaults import (
    COVERAGE,
    PREDICTION_CURVE,
    PREDICTION_VIEW,
    PROBE_VIEW,
)

if TYPE_CHECKING:
    from ptqdb.fitting.predicted_losses import Predictions

REFERENCE = "The reference"
TABLE_COLUMNS = (
    *("number_format", "bits_per_weight", "divergence", "predicted_loss", "lower", "upper"),
)
MARKS = ("within_noise", "outside_reference")

Network = Annotated[
    str,
    typer.Option(
        metavar="SPEC",
        help=f"{SPEC_HELP}.",
        rich_help_panel=NETWORK,
        autocompletion=completion.reference_networks,
    ),
]
CalibrationDataset = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Images, with or without labels, to calibrate the scales of the inputs: as for "
        "`ptqdb collect --dataset`, or a folder of pictures. Default: none, which allows only "
        "views of the weights.",
        rich_help_panel=IMAGES,
    ),
]
Calibration = Annotated[
    int | None,
    typer.Option(
        help="Use the first N images. Default: at most 1024.", min=1, rich_help_panel=IMAGES
    ),
]
Probe = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Run each format on the first N calibration images, without labels, and predict from "
        "the agreement with the float network. 0: do not.",
        min=0,
        rich_help_panel=IMAGES,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Without images: edge of the network's input in pixels, if not otherwise known.",
        min=1,
        rich_help_panel=IMAGES,
    ),
]
PredictionView = Annotated[
    str | None,
    typer.Option(
        help="A view's name, or a call of variant.",
        show_default=f"{PREDICTION_VIEW}, with --probe {PROBE_VIEW}",
        rich_help_panel=REFERENCE,
        autocompletion=completion.views,
    ),
]
CurveName = Annotated[
    str,
    typer.Option(
        help="The curve's name.", rich_help_panel=REFERENCE, autocompletion=completion.curves
    ),
]
FloatAccuracy = Annotated[
    float | None,
    typer.Option(
        help="The network's float accuracy, a fraction, for curves that saturate at chance. "
        "Default: the mean of the reference networks.",
        min=0.0,
        max=1.0,
        rich_help_panel=REFERENCE,
    ),
]


@dataclass(frozen=True)
class PredictionOptions:
    """The options of a prediction: calibration, formats and reference."""

    calibration_dataset: CalibrationDataset = None
    calibration: Calibration = None
    probe: Probe = 0
    image_column: ImageColumn = None
    image_size: ImageSize = None
    number_formats: NumberFormats = None
    device: Device = None
    db: ReadDatabase = None
    view: PredictionView = None
    curve: CurveName = PREDICTION_CURVE
    leave_out: LeaveOutOption = "network"
    interval: Coverage = COVERAGE
    float_accuracy: FloatAccuracy = None


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Examples: `ptqdb predict --network VGG_16 --calibration-dataset images/`; "
        "`ptqdb predict --network torchvision:resnet18 --weights DEFAULT "
        "--calibration-dataset val/ --number-formats 'INT_*'`; "
        "`ptqdb predict --network VGG_16 --calibration-dataset images/ --probe 128`"
    )(predict)
    app.command(
        epilog="Example: `ptqdb recommend --network nets.py:small --checkpoint small.pt "
        "--mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --calibration-dataset images/ --max-loss 0.01`"
    )(recommend)


def predict(
    network: Network,
    said: NetworkOptions,
    asked: PredictionOptions,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Predict a network's loss in each number format, without evaluating the quantized network.

    Losses are fractions of the float accuracy, each with a prediction interval that includes the
    spread between networks. stderr says what share of their formats nearly all networks of the
    reference had inside such intervals when they were left out. within_noise marks predictions too
    small to distinguish from no loss in the reference's evaluations. The reference is the database,
    or the embedded study. If the quantized network can be run, --probe 128 predicts better.
    """
    found = _predicted(network, said, asked)
    rows = [row.as_dict() for row in found.rows]
    is_wide = output not in (OutputFormat.TABLE, OutputFormat.MARKDOWN)
    print_rows(list(rows[0]) if is_wide else [*TABLE_COLUMNS, *MARKS], rows, output)


def recommend(
    network: Network,
    said: NetworkOptions,
    asked: PredictionOptions,
    max_loss: Annotated[
        float,
        typer.Option(
            help="Largest acceptable loss, a fraction of the float accuracy.", min=0.0, max=1.0
        ),
    ],
    expected: Annotated[
        bool,
        typer.Option(
            "--expected", help="Compare --max-loss with the predicted loss, not its upper bound."
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Also print formats that are neither.")
    ] = False,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Recommend number formats within a loss, fewest bits per weight first.

    A format is recommended if the upper bound of its loss is within --max-loss. Also prints the
    frontier of bits per weight and loss: formats that no other of as few is predicted to beat.
    """
    found = _predicted(network, said, asked)
    every_format = found.recommend(max_loss, expected=expected)
    shown = [one for one in every_format if every or one.recommended or one.on_frontier]
    rows = [one.as_dict() for one in shown]
    is_wide = output not in (OutputFormat.TABLE, OutputFormat.MARKDOWN)
    columns = ["recommended", "on_frontier", *TABLE_COLUMNS, *MARKS]
    print_rows(list(rows[0]) if is_wide else columns, rows, output)
    left_out = len(every_format) - len(shown)
    if left_out:
        say(f"{left_out} of {len(every_format)} formats not shown: --all prints them")
    if not any(one.recommended for one in every_format):
        bound = "predicted loss" if expected else "upper bound"
        say(f"no format's {bound} is within {max_loss:g}")


@prints_to_stderr()
def _predicted(network: str, said: NetworkOptions, asked: PredictionOptions) -> "Predictions":
    """Predict according to the options; remarks go to stderr."""
    from ptqdb.collection.declaration import check_network
    from ptqdb.networks.devices import check_device
    from ptqdb.quantization.formats import STUDY, match_formats

    entry, has_images = said.entry(network), asked.calibration_dataset is not None
    number_formats, device = match_formats(asked.number_formats or STUDY), asked.device or "cpu"
    check_network(entry)
    check_device(device)
    with open_reader(asked.db) as study:
        view = asked.view or (PROBE_VIEW if asked.probe else PREDICTION_VIEW)
        study.check_prediction_view(view, asked.curve, has_images=has_images, probe=asked.probe)
        from ptqdb.collection.requests import calibration_images, find_network  # imports PyTorch

        source, images = find_network(entry), None
        if asked.calibration_dataset is not None:
            images = calibration_images(
                source,
                asked.calibration_dataset,
                count=asked.calibration,
                image_column=asked.image_column,
            )
        found = study.predict(
            source,
            images,
            probe=asked.probe,
            view=view,
            curve=asked.curve,
            number_formats=number_formats,
            leave_out=asked.leave_out,
            coverage=asked.interval,
            float_accuracy=asked.float_accuracy,
            image_size=asked.image_size,
            device=device,
        )
    if found.unit_coverages:
        say(
            f"{found.network}: {found.curve} over {found.view}, fitted to {len(found.reference)} "
            f"networks: {', '.join(found.reference)}"
        )
    else:
        say(f"{found.network}: {found.view}")
    for remark in found.remarks:
        say(remark)
    return found
