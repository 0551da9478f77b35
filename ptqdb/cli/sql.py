"""``ptqdb sql``: ask the database anything, read-only."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import Format, ReadDatabase
from ptqdb.cli.output import OutputFormat, print_frame
from ptqdb.cli.reading import open_reader


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog='Example: `ptqdb sql "select network, params, macs from network_overview"`')(
        sql
    )


def sql(
    query: Annotated[str, typer.Argument(help="A query, the name of a file, or - for stdin.")],
    db: ReadDatabase = None,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Run a query, read-only."""
    from ptqdb.database import query as run_query

    if query == "-":
        query = sys.stdin.read()
    elif query.endswith(".sql") and Path(query).is_file():
        query = Path(query).read_text(encoding="utf-8")
    with open_reader(db) as connection:
        print_frame(run_query(connection, query), output)
