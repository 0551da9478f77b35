"""``ptqdb info``: what a database holds, and what is missing in it."""

import typer

from ptqdb.cli.options import DEFAULT_DATABASE, Database, Format
from ptqdb.cli.output import OutputFormat, print_frame


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb info --db study.duckdb`")(info)


def info(db: Database = DEFAULT_DATABASE, output: Format = OutputFormat.TABLE) -> None:
    """Say which networks, formats and images a file holds, and which cells are missing.

    A cell is missing where a run announced it, or where it belongs to the study's grid of
    formats, and no evaluation is there.
    """
    from ptqdb.database import connect, query

    with connect(db, read_only=True) as connection:
        print_frame(query(connection, "select * from network_overview"), output)
