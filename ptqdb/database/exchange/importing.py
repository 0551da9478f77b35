"""Merges an exported study into a database, in one transaction and with consistency checks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from ptqdb.database.exchange.merging import merge
from ptqdb.database.exchange.staging import require_export, stage
from ptqdb.database.exchange.statements import Statements, little_memory
from ptqdb.database.exchange.verifying import verify
from ptqdb.database.opening import connect
from ptqdb.database.reading import read_number
from ptqdb.database.writing import checkpoint, forget_fits, materialize, transaction
from ptqdb.errors import PtqdbError
from ptqdb.support.paths import is_there


@contextmanager
def create_if_imported(path: Path, folder: Path) -> Iterator[None]:
    """Avoid creating a database file if the import fails.

    The folder is checked before the block opens the file. A new file is deleted if the block raises
    an error and it contains no network.

    Raises
    ------
    DataError
        The folder contains no export.
    """
    require_export(folder)
    was_there = is_there(path)
    try:
        yield
    except BaseException:
        if not was_there and path.is_file() and _is_empty(path):
            with suppress(OSError):
                path.unlink()
        raise


def _is_empty(path: Path) -> bool:
    try:
        with connect(path, read_only=True) as connection:
            return not read_number(connection, "select count(*) from network")
    except PtqdbError:
        return False


def import_study(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    remarked: Callable[[str], None] | None = None,
    *,
    prefix: str = "",
) -> dict[str, int]:
    """Merge an exported study into a database in one transaction; return rows added by table.

    Ids are translated: datasets are matched by content hash, formats and schemes by name, networks
    by name. An existing network with the same checkpoint and datasets gets only its missing cells;
    the facts of existing cells must agree, up to differences between machines (see ``conflicts``).
    Importing again adds nothing. Before the commit, the checks of ``sql/checks`` run on the
    networks of the folder. The derived tables are computed after the commit: if interrupted, import
    again to complete them.

    Parameters
    ----------
    remarked
        Receives a line for each derived table that cannot be computed, and for incomplete facts;
        with None the former raise an error after the commit.
    prefix
        Prefix for the names of the networks, for studies with networks of the same name.

    Raises
    ------
    DataError
        A file is missing, is not Parquet, lacks a column, has an unknown column, another type or a
        duplicate key, or refers to a missing row; the message names file and column. Or facts
        contradict each other: the message has the check and some rows. Or a derived table cannot be
        computed, and `remarked` is None.
    MismatchError
        The database has something else under the same name, such as a network with another
        checkpoint, or other facts of the same cell; the message names file and column.
    """
    statements = Statements(connection)
    with little_memory(connection), stage(statements, folder, prefix):
        with transaction(connection):
            forget_fits(connection)
            merged = merge(statements, folder)
            if any(merged.added.values()):
                for remark in verify(statements, folder, merged.network_ids):
                    if remarked is not None:
                        remarked(remark)
        materialize(connection, remarked)
        checkpoint(connection)
    return merged.added
