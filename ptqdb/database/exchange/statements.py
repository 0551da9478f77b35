"""Runs the statements of a merge: interruptible, with errors that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from ptqdb.database.file_errors import first_line
from ptqdb.database.writing import interruptible
from ptqdb.errors import DatabaseError, DataError

MEMORY_LIMIT = "512MB"
"""Memory limit of DuckDB; more data is spilled to files next to the database."""
MOST_THREADS = 4
"""Each thread buffers its own rows."""


@contextmanager
def little_memory(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Limit DuckDB's memory, except for an in-memory database."""
    ((file, threads, limit),) = connection.execute(
        "select path, current_setting('threads'), current_setting('memory_limit') "
        "from duckdb_databases() where database_name = current_database()"
    ).fetchall()
    if file is None:
        yield
        return
    try:
        connection.execute(f"set memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"set threads = {min(threads, MOST_THREADS)}")
        yield
    finally:
        with suppress(duckdb.Error):
            connection.execute(f"set memory_limit = '{limit}'")
            connection.execute(f"set threads = {threads}")


@dataclass(frozen=True)
class Statements:
    """A connection whose statements can be interrupted."""

    connection: duckdb.DuckDBPyConnection

    def rows(self, sql: str, path: Path | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a statement.

        Parameters
        ----------
        path
            The file to name in an error.

        Raises
        ------
        DataError
            The statement failed because of the data it read.
        DatabaseError
            Memory or disk is full, or a file disappeared.
        """
        try:
            return interruptible(self.connection, sql)
        except (duckdb.OperationalError, duckdb.FatalException) as error:
            raise DatabaseError(first_line(error)) from error
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
            raise  # already a message of ptqdb
        except duckdb.Error as error:
            blamed = "" if path is None else f"{path}: "
            raise DataError(f"{blamed}{first_line(error)}") from error

    def run(self, sql: str, path: Path | None = None) -> None:
        """Run a statement; see ``rows``."""
        self.rows(sql, path)

    def count(self, sql: str, path: Path | None = None) -> int:
        """Return the number of rows that a statement inserted, or the single number it returns."""
        return int(self.rows(sql, path)[0][0])

    def drop(self, kind: str, name: str) -> None:
        """Drop a temporary object, even if it does not exist or a transaction has failed."""
        with suppress(duckdb.Error):
            self.connection.execute(f"drop {kind} if exists temp.{name}")


def words(values: tuple[object, ...]) -> str:
    """Format values for a message."""
    return ", ".join("NULL" if value is None else str(value) for value in values)


def same(columns: tuple[str, ...]) -> str:
    """Return the condition that rows of the file (``f``) and database (``d``) agree in columns.

    Examples
    --------
    >>> same(("name",))
    'f.name is not distinct from d.name'
    """
    return " and ".join(f"f.{column} is not distinct from d.{column}" for column in columns)
