"""``ptqdb fit``: fit a curve of accuracy loss over divergence."""

from typing import Annotated

import typer

from ptqdb.cli.options import DEFAULT_VIEW, Format, ReadDatabase, View
from ptqdb.cli.output import OutputFormat, print_rows
from ptqdb.cli.reading import open_reader


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb fit --view fakefreeze_flops --format json`")(fit)


def fit(
    view: View = DEFAULT_VIEW,
    db: ReadDatabase = None,
    curve: Annotated[str, typer.Option(help="The curve's name.")] = "rational2",
    output: Format = OutputFormat.TABLE,
) -> None:
    """Fit a curve to all networks together and to each one.

    Accuracy loss (a fraction of the float accuracy) over divergence, by least squares.
    """
    from ptqdb.study import fit as fit_view

    with open_reader(db) as study:
        fits = fit_view(study, view, curve=curve)
    for group in fits:
        if group.error:
            typer.echo(f"{group.group}: {group.error}", err=True)
    rows = [group.as_dict() for group in fits]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print_rows(columns, rows, output)
