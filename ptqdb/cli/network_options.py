"""The options that describe a network, for the commands that take one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptqdb.cli import completion

if TYPE_CHECKING:
    from ptqdb.collection.declaration import NetworkEntry

NETWORK, IMAGES, CELLS = "The network", "The images", "What is quantized"

SPEC_HELP = (
    "A reference network's name, torchvision:NAME, timm:NAME, package.module:callable or "
    "path/file.py:callable"
)

Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="The network's weights: a safetensors or torch file.", rich_help_panel=NETWORK
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Name of weights published by torchvision or timm, such as DEFAULT; or random.",
        rich_help_panel=NETWORK,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        help="The network's name in the database. Default: from SPEC.",
        rich_help_panel=NETWORK,
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(help="The network's family. Default: its name.", rich_help_panel=NETWORK),
]
ClassCount = Annotated[
    int | None,
    typer.Option(help="Number of outputs, with --weights random.", min=1, rich_help_panel=NETWORK),
]
Seed = Annotated[
    int | None, typer.Option(help="For --weights random. Default: 0.", rich_help_panel=NETWORK)
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M,M,M",
        help="Per channel; the network's input is (x / 255 - mean) / std.",
        rich_help_panel=NETWORK,
    ),
]
Std = Annotated[
    str | None, typer.Option(metavar="S,S,S", help="See --mean.", rich_help_panel=NETWORK)
]
Resize = Annotated[
    int | None,
    typer.Option(
        help="Resize the shorter edge of images to N pixels.", min=1, rich_help_panel=NETWORK
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(help="Crop the centre to N x N pixels.", min=1, rich_help_panel=NETWORK),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(help="Column of images, if its name is unusual.", rich_help_panel=IMAGES),
]
NumberFormats = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated names, globs or pairs, such as `INT_*,mxfp4,INT_6@channel`; study: "
        "the study's 43; deployed: those that people ship; file.py:function: your own. `ptqdb "
        "formats` lists them.",
        show_default="study",
        autocompletion=completion.number_formats,
        rich_help_panel=CELLS,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:N.", show_default="cpu", rich_help_panel=CELLS),
]


@dataclass(frozen=True)
class NetworkOptions:
    """The options of one network."""

    checkpoint: Checkpoint = None
    weights: Weights = None
    class_count: ClassCount = None
    seed: Seed = None
    mean: Mean = None
    std: Std = None
    resize: Resize = None
    crop: Crop = None

    def entry(
        self, spec: str, *, name: str | None = None, architecture: str | None = None
    ) -> "NetworkEntry":
        """Return the network's declaration, as in a study file.

        Raises
        ------
        UsageError
            A mean or a standard deviation is not a list of numbers.
        """
        from ptqdb.collection.declaration import NetworkEntry
        from ptqdb.datasets.preprocessing import channel_values

        return NetworkEntry(
            spec,
            checkpoint=self.checkpoint,
            weights=self.weights,
            name=name,
            architecture=architecture,
            mean=None if self.mean is None else channel_values("--mean", self.mean),
            std=None if self.std is None else channel_values("--std", self.std),
            resize=self.resize,
            crop=self.crop,
            class_count=self.class_count,
            seed=self.seed,
        )
