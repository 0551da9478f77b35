"""Writes facts in transactions, and computes the tables derived from them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import polars as pl

from ptqdb.database.file_errors import database_error, file_errors, first_line, is_of_file
from ptqdb.database.reading import read_number
from ptqdb.errors import DataError
from ptqdb.resources import sql_folder
from ptqdb.support.interruption import keep_interrupts

_FORMULA_ERRORS = (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError)
"""DuckDB errors for values that cannot be computed, converted or stored."""


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block writes; on any exception or interruption, roll it back.

    Raises
    ------
    DatabaseError
        The file cannot be written.
    """
    with file_errors(connection):
        try:
            # Inside the try: an interrupt may arrive after the transaction has begun.
            connection.execute("begin")
            with keep_interrupts():
                yield
            connection.execute("commit")
        except BaseException:
            # DuckDB may have ended the transaction or reject every statement; or none has begun.
            with suppress(duckdb.Error):
                connection.execute("rollback")
            raise


def checkpoint(connection: duckdb.DuckDBPyConnection) -> None:
    """Write committed data from the log to the file.

    Raises
    ------
    DatabaseError
        The file cannot be written; committed data is still in the log.
    """
    with file_errors(connection):
        connection.execute("checkpoint")


def insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    """Append the frame's rows to a table; columns are matched by name, missing ones are NULL.

    Raises
    ------
    DataError
        The rows violate a constraint, or a column does not exist or cannot be converted.
    DatabaseError
        The file cannot be written.
    """
    # Use the Arrow stream: DuckDB reads frames through pyarrow, which ptqdb does not require.
    # It cannot read columns of type Null from a stream; NULL strings convert to any type.
    typed = frame.cast({column.name: pl.String for column in frame if column.dtype == pl.Null})
    # Rows left by a caller's fetchone would prevent DuckDB from registering the frame.
    connection.complete()
    connection.register("_inserted", typed.__arrow_c_stream__())
    try:
        connection.execute(f"insert into {table} by name select * from _inserted")
    except duckdb.Error as error:
        if is_of_file(error):
            raise database_error(connection, error) from error
        raise DataError(f"cannot insert into {table}: {first_line(error)}") from error
    finally:
        with suppress(duckdb.Error):
            connection.unregister("_inserted")


def next_id(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """Return the first unused id of a table: the largest plus 1, or 1 if it is empty."""
    column = "run_id" if table == "collection_run" else f"{table}_id"
    return read_number(connection, f"select coalesce(max({column}), 0) + 1 from {table}")


def materialize(
    connection: duckdb.DuckDBPyConnection, remarked: Callable[[str], None] | None = None
) -> int:
    """Compute the missing rows of the derived tables; return the number of rows added.

    Each statement commits separately: the failure of one affects neither the facts nor the others.
    Views have no rows where derived values are missing.

    Parameters
    ----------
    remarked
        Receives a line for each statement that fails; None: raise an error after running all.

    Raises
    ------
    DataError
        A statement failed, and `remarked` is None.
    DatabaseError
        The file cannot be written, or memory or disk are full.
    """
    added, failures = 0, []
    for file in sorted((sql_folder() / "materialized").glob("*.sql")):
        try:
            with file_errors(connection):
                added += interruptible(connection, file.read_text(encoding="utf-8"))[0][0]
        except _FORMULA_ERRORS as error:
            failures.append(
                f"cannot derive {file.stem} from the facts, which are kept: {first_line(error)}"
            )
    if failures and remarked is None:
        raise DataError("; ".join(failures))
    for failure in failures:
        if remarked is not None:
            remarked(failure)
    return added


def forget_fits(connection: duckdb.DuckDBPyConnection) -> None:
    """Delete the stored fits before the facts change."""
    connection.execute("delete from fit_fold")
    connection.execute("delete from fit")


def interruptible(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement that Ctrl-C can end, and return its rows.

    DuckDB does not notice the signal while it runs, so the statement runs in a separate thread.

    Raises
    ------
    KeyboardInterrupt
        The statement was interrupted; nothing of it was written.
    """
    rows: list[tuple[Any, ...]] = []
    failures: list[BaseException] = []
    # Not Thread.join: a KeyboardInterrupt in it marks a running thread as finished.
    is_done = threading.Event()

    def work() -> None:
        try:
            rows.extend(connection.execute(sql).fetchall())
        except BaseException as error:
            failures.append(error)
        finally:
            is_done.set()

    threading.Thread(target=work).start()
    try:
        while not is_done.wait(0.05):
            pass
    except KeyboardInterrupt:
        # An interrupt before DuckDB has started would be lost, so repeat it.
        while not is_done.wait(0.05):
            connection.interrupt()
        raise
    if failures:
        raise failures[0]
    return rows
