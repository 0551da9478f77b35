"""``ptqdb sql``: run a read-only query."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import Format, ReadDatabase
from ptqdb.cli.output import OutputFormat, print_frame
from ptqdb.cli.reading import open_reader
from ptqdb.errors import DataError, QueryError, UsageError

CONFINED = ("disabled by configuration", "configuration has been locked")
"""DuckDB's messages when a query may not leave its database."""


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
    allow_files: Annotated[
        bool,
        typer.Option("--allow-files", help="Let the query read and write other files."),
    ] = False,
) -> None:
    """Run a query, read-only.

    Runs several statements, separated by semicolons, and prints the result of the last one.
    Queries cannot use other files, extensions or the internet unless --allow-files is given.
    """
    from ptqdb.database import Form, confine
    from ptqdb.database import query as run_query

    text = _text(query)
    forms = {OutputFormat.PARQUET: Form.STORED, OutputFormat.JSON: Form.NESTED}
    with open_reader(db) as study:
        if not allow_files:
            confine(study.connection)
        try:
            frame = run_query(study.connection, text, forms.get(output, Form.FLAT))
        except QueryError as error:
            if allow_files or not any(each in str(error) for each in CONFINED):
                raise
            raise QueryError(f"{error}; use --allow-files to permit this") from error
    print_frame(frame, output)


def _text(query: str) -> str:
    """Return the query itself, or the content of the named file or of stdin."""
    if query == "-":
        try:
            return sys.stdin.read()
        except UnicodeDecodeError as error:
            raise DataError("stdin cannot be read: it is not UTF-8 text") from error
    if not query.endswith(".sql"):
        return query
    path = Path(query)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {query}: give an existing one, or the query itself"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{query} cannot be read: {reason}") from error
