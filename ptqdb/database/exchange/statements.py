"""Runs the statements of a merge: Ctrl-C ends them, and their errors name the file."""

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
"""What DuckDB may keep in memory; what is more lies in files beside the database meanwhile."""
MOST_THREADS = 4
"""Each keeps rows of its own."""


@contextmanager
def little_memory(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let DuckDB work in little memory; a database without a file is memory, and has it all."""
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
        """The rows of a statement.

        Parameters
        ----------
        path
            The file that is to blame for an error.

        Raises
        ------
        DataError
            The statement failed because of what it read.
        DatabaseError
            Memory or disk are full, or a file went away.
        """
        try:
            return interruptible(self.connection, sql)
        except (duckdb.OperationalError, duckdb.FatalException) as error:
            raise DatabaseError(first_line(error)) from error
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
            raise  # of ptqdb's own words
        except duckdb.Error as error:
            blamed = "" if path is None else f"{path}: "
            raise DataError(f"{blamed}{first_line(error)}") from error

    def run(self, sql: str, path: Path | None = None) -> None:
        """Run a statement; see ``rows``."""
        self.rows(sql, path)

    def count(self, sql: str, path: Path | None = None) -> int:
        """The number of rows that a statement inserted, or the one number that it gives."""
        return int(self.rows(sql, path)[0][0])

    def drop(self, kind: str, name: str) -> None:
        """Drop something temporary, also where a transaction has failed or it is not there."""
        with suppress(duckdb.Error):
            self.connection.execute(f"drop {kind} if exists temp.{name}")


def words(values: tuple[object, ...]) -> str:
    """Values as a message shows them."""
    return ", ".join("NULL" if value is None else str(value) for value in values)


def same(columns: tuple[str, ...]) -> str:
    """The condition that a row of the file (``f``) and one of the database (``d``) agree there.

    Examples
    --------
    >>> same(("name",))
    'f.name is not distinct from d.name'
    """
    return " and ".join(f"f.{column} is not distinct from d.{column}" for column in columns)
