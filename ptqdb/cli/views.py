"""``ptqdb views``: the named views, and the SQL behind them."""

from typing import Annotated

import typer

from ptqdb.cli.options import DEFAULT_DATABASE, Database, Format
from ptqdb.cli.output import OutputFormat, print_frame


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb views 'fakefreeze_*'`")(views)


def views(
    pattern: Annotated[str, typer.Argument(help="A name or glob.")] = "*",
    db: Database = DEFAULT_DATABASE,
    show_sql: Annotated[bool, typer.Option("--sql", help="Print the views' SQL.")] = False,
    output: Format = OutputFormat.TABLE,
) -> None:
    """List the views, each with what it means."""
    from ptqdb.database import connect, list_views

    with connect(db, read_only=True) as connection:
        frame = list_views(connection, pattern)
    if show_sql:
        for sql in frame["sql"]:
            typer.echo(sql)
    else:
        print_frame(frame.drop("sql"), output)
