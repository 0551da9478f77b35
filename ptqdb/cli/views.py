"""``ptqdb views``: the named views, and the SQL behind them."""

from typing import Annotated

import typer

from ptqdb.cli.options import Format, ReadDatabase
from ptqdb.cli.output import OutputFormat, print_frame
from ptqdb.cli.reading import open_reader


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb views 'fakefreeze_*'`")(views)


def views(
    pattern: Annotated[str, typer.Argument(help="A name or glob.")] = "*",
    db: ReadDatabase = None,
    show_sql: Annotated[bool, typer.Option("--sql", help="Print the views' SQL.")] = False,
    output: Format = OutputFormat.TABLE,
) -> None:
    """List the views, each with what it means."""
    from ptqdb.database import list_views

    with open_reader(db) as connection:
        frame = list_views(connection, pattern)
    if show_sql:
        for sql in frame["sql"]:
            typer.echo(sql)
    else:
        print_frame(frame.drop("sql"), output)
