"""``ptqdb chart``: draw a picture of the study."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import ReadDatabase, View
from ptqdb.cli.reading import open_reader
from ptqdb.defaults import FIT_CURVE, FIT_VIEW


class Kind(StrEnum):
    """The pictures that can be drawn."""

    FIT = "fit"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb chart fit --view fakefreeze_flops_log -o fit.html`")(chart)


def chart(
    kind: Annotated[Kind, typer.Argument(help="Which picture.")] = Kind.FIT,
    view: View = FIT_VIEW,
    db: ReadDatabase = None,
    curve: Annotated[str, typer.Option(help="The curve's name.")] = FIT_CURVE,
    network: Annotated[str | None, typer.Option(help="One network alone.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .html, .png, .svg or .json file.", show_default="KIND.html"
        ),
    ] = None,
) -> None:
    """Draw accuracy loss over divergence, with the fitted curve."""
    from ptqdb.charts import save_chart
    from ptqdb.study import chart as draw

    with open_reader(db) as study:
        drawn = draw(study, view, curve=curve, network=network)
    path = output or Path(f"{kind.value}.html")
    save_chart(drawn, path)
    typer.echo(f"wrote {path}", err=True)
