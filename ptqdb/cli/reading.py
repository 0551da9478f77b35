"""Opens the database of a reading command, or else the embedded study."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ptqdb.cli.output import say
from ptqdb.defaults import DEFAULT_DATABASE

if TYPE_CHECKING:
    import duckdb

    from ptqdb.study import Study


@contextmanager
def open_reader(db: Path | None) -> "Iterator[Study]":
    """Open a database read-only; without `db` and the default file, open the embedded study.

    A message on stderr names the embedded study, so that nobody mistakes it for their own.

    Raises
    ------
    DatabaseError
        The given file cannot be read, or there are neither a default file nor embedded facts.
    """
    with open_as_it_is(_chosen(db)) as study:
        yield study


@contextmanager
def open_as_it_is(path: Path | None) -> "Iterator[Study]":
    """Open a database read-only; None is the embedded study.

    If the file is being written and its snapshot is read instead, a message on stderr says so.

    Raises
    ------
    DatabaseError
        The file cannot be read.
    """
    from ptqdb.study import open_study

    with open_study(path) as study:
        if study.snapshot is not None:
            say(str(study.snapshot))
        yield study


def chosen_study(db: Path | None) -> "Study":
    """Return the study that `open_reader` would open, not opened yet, so it can be written."""
    from ptqdb.study import open_study

    return open_study(_chosen(db), create=True)


def tell_failed_cells(connection: "duckdb.DuckDBPyConnection") -> None:
    """List on stderr the cells that cannot be evaluated, one per line."""
    from ptqdb.database import read_rows

    rows = read_rows(
        connection,
        "select network, number_format, scope, quantized_layer, layer, reason "
        "from failed_cell_overview",
    )
    for network, number_format, scope, alone, layer, reason in rows:
        what = scope if alone is None else f"layer {alone}"
        cell = number_format if scope == "all" else f"{number_format} ({what})"
        place = f"after layer {layer} started: " if layer else ""
        say(f"{network} cannot be evaluated in {cell}: {place}{reason}")


def _chosen(db: Path | None) -> Path | None:
    """The file to open; None for the embedded study, with a message."""
    from ptqdb.database.embedded_facts import embedded_facts_folder

    if db is None and not DEFAULT_DATABASE.exists() and embedded_facts_folder() is not None:
        say(f"no --db given and no {DEFAULT_DATABASE} here: reading the embedded study")
        return None
    return db or DEFAULT_DATABASE
