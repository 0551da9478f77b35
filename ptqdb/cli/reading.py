"""Opens what a reading command reads: the database, or else the embedded study's facts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ptqdb.cli.options import DEFAULT_DATABASE

if TYPE_CHECKING:
    import duckdb


@contextmanager
def open_reader(db: Path | None) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a database read-only; without a name and a default one, the embedded study's facts.

    Which study it is then stands on stderr, so that nobody takes it for one of their own.

    Raises
    ------
    DatabaseError
        The named file cannot be read, or there is neither a default one nor embedded facts.
    """
    from ptqdb.database import connect
    from ptqdb.embedded_facts import embedded_facts_folder, open_embedded_facts

    if db is None and not DEFAULT_DATABASE.exists() and embedded_facts_folder() is not None:
        typer.echo(
            f"no --db given and no {DEFAULT_DATABASE} here: reading the embedded study", err=True
        )
        with open_embedded_facts() as connection:
            yield connection
    else:
        with connect(db or DEFAULT_DATABASE, read_only=True) as connection:
            yield connection
