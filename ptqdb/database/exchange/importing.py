"""Merges an exported study into a database: whole or not at all, and only what fits together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from ptqdb.database.exchange.merging import merge
from ptqdb.database.exchange.staging import require_export, staged
from ptqdb.database.exchange.statements import Statements, little_memory
from ptqdb.database.exchange.verifying import verify
from ptqdb.database.opening import connect
from ptqdb.database.reading import read_number
from ptqdb.database.writing import checkpoint, forget_fits, materialize, transaction
from ptqdb.errors import PtqdbError
from ptqdb.support.paths import is_there


@contextmanager
def created_if_imported(path: Path, folder: Path) -> Iterator[None]:
    """Keep a database file from coming into being where there is nothing to import into it.

    The folder is looked at before the block opens the file; one that was not there before goes
    again where the block raises an error and left no network in it.

    Raises
    ------
    DataError
        The folder holds no export.
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
    """Merge an exported study into a database, whole or not at all; return rows added by table.

    Ids are translated: datasets are matched by content hash, formats and schemes by name,
    networks by name. A network that is there already, with the same checkpoint and datasets,
    gets only the cells that it lacks; facts of a cell that is there have to be the same, up to
    what two machines differ in (see ``conflicts``). Importing again adds nothing. The checks of
    ``sql/checks`` run before anything is committed, over the networks of the folder. The derived
    tables are computed once the facts are in: an interrupted import is completed by another.

    Parameters
    ----------
    remarked
        Receives a line for each derived table that cannot be computed, and for facts that are
        incomplete; None raises an error instead of the former, when the facts are in.
    prefix
        What is put before the names of the networks, so that two studies may hold one of the
        same name.

    Raises
    ------
    DataError
        A file is missing, is no Parquet, lacks a column, has another one or another type, a
        key twice, or refers to what is not there; the message names file and column. Or facts
        contradict each other: the message has the check and some rows. Or a derived table
        cannot be computed, and nobody receives remarks.
    MismatchError
        The database holds something else under the same name, such as a network with another
        checkpoint, or other facts of the same cell; the message names file and column.
    """
    statements = Statements(connection)
    with little_memory(connection), staged(statements, folder, prefix):
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
