"""``ptqdb chart``: draw a picture of the study."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import DEFAULT_VIEW, ReadDatabase, View
from ptqdb.cli.reading import open_reader


class Kind(StrEnum):
    """The pictures that can be drawn."""

    FIT = "fit"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb chart fit --view fakefreeze_flops_log -o fit.html`")(chart)


def chart(
    kind: Annotated[Kind, typer.Argument(help="Which picture.")] = Kind.FIT,
    view: View = DEFAULT_VIEW,
    db: ReadDatabase = None,
    curve: Annotated[str, typer.Option(help="The curve's name.")] = "rational2",
    network: Annotated[str | None, typer.Option(help="One network alone.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .html, .png, .svg or .json file.", show_default="KIND.html"
        ),
    ] = None,
) -> None:
    """Draw accuracy loss over divergence, with the fitted curve."""
    from ptqdb.charts import fit_chart, save_chart
    from ptqdb.database import read_view
    from ptqdb.fitting import fit_view_frame, of_network

    with open_reader(db) as connection:
        frame = read_view(connection, view)
    if network is not None:
        frame = of_network(frame, network)
    fits = fit_view_frame(frame, view=view, curve=curve)
    path = output or Path(f"{kind.value}.html")
    save_chart(fit_chart(frame, fits, view=view, network=network), path)
    typer.echo(f"wrote {path}", err=True)
