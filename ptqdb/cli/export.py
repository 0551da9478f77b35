"""``ptqdb export``: write a study as a folder of Parquet files."""

from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import Database
from ptqdb.cli.output import say
from ptqdb.defaults import DEFAULT_DATABASE


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb export facts --db study.duckdb`")(export)


def export(
    folder: Annotated[Path, typer.Argument(help="The folder to write; created if missing.")],
    db: Database = DEFAULT_DATABASE,
) -> None:
    """Write a study's facts as one Parquet file per table.

    Equal facts give equal bytes. Derived tables are left out.
    """
    from ptqdb.cli.reading import open_as_it_is
    from ptqdb.database.exchange import TABLE_NAMES

    with open_as_it_is(db) as study:
        study.export(folder)
    say(f"wrote {len(TABLE_NAMES)} tables to {folder}")
