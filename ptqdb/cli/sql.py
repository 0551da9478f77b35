"""``ptqdb sql``: ask the database anything, read-only."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import Format, ReadDatabase
from ptqdb.cli.output import OutputFormat, print_frame
from ptqdb.cli.reading import open_reader
from ptqdb.errors import DataError, UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog='Examples: `ptqdb sql "select network, params, macs from network_overview"`, '
        "`ptqdb sql query.sql --format csv`, `ptqdb sql - < query.sql`"
    )(sql)


def sql(
    query: Annotated[
        str, typer.Argument(help="A query, the name of a file that ends in .sql, or - for stdin.")
    ],
    db: ReadDatabase = None,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Run a query, read-only.

    Of several statements, separated by semicolons, all are run and the result of the last one
    is printed.
    """
    text = _text(query)
    with open_reader(db) as study:
        print_frame(study.sql(text), output)


def _text(query: str) -> str:
    """Return the query itself, what the file of that name holds, or what stdin does."""
    if query == "-":
        return sys.stdin.read()
    if not query.endswith(".sql"):
        return query
    path = Path(query)
    if not path.exists():
        raise UsageError(f"there is no file {query}: name one, or give the query itself")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{query} cannot be read: {reason}") from error
