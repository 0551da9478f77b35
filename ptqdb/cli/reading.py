"""Opens what a reading command reads: the database, or else the embedded study's facts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ptqdb.cli.options import DEFAULT_DATABASE

if TYPE_CHECKING:
    from ptqdb.study import Study


@contextmanager
def open_reader(db: Path | None) -> "Iterator[Study]":
    """Open a database read-only; without a name and a default one, the embedded study's facts.

    Which study it is then stands on stderr, so that nobody takes it for one of their own.

    Raises
    ------
    DatabaseError
        The named file cannot be read, or there is neither a default one nor embedded facts.
    """
    from ptqdb.embedded_facts import embedded_facts_folder
    from ptqdb.study import open_study

    if db is None and not DEFAULT_DATABASE.exists() and embedded_facts_folder() is not None:
        typer.echo(
            f"no --db given and no {DEFAULT_DATABASE} here: reading the embedded study", err=True
        )
        path = None
    else:
        path = db or DEFAULT_DATABASE
    with open_study(path) as study:
        yield study
