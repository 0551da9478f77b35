"""Converts DuckDB's errors on reading or writing its file to one line that names the file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from ptqdb.errors import DatabaseError

_OF_FILE = (duckdb.OperationalError, duckdb.FatalException, duckdb.InternalError)
"""Disk or memory is full, the file disappeared, or its content is invalid."""
_CORRUPT = "Corrupt database file"
_OPERATION = re.compile(
    r'ould not (?P<verb>\w+)[^"]*file[^"]*"(?P<path>[^"]+)": (?P<reason>[^"\n]+)'
)


@contextmanager
def file_errors(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Convert errors of a connection's file, disk or memory to one-line errors.

    Raises
    ------
    DatabaseError
        The file cannot be read or written. After some of these errors DuckDB rejects all further
        statements on the connection; committed data is in the file.
    """
    try:
        yield
    except duckdb.Error as error:
        if not is_of_file(error):
            raise
        raise database_error(connection, error) from error


def is_of_file(error: duckdb.Error) -> bool:
    """Whether an error is about the database's file, its disk or the memory."""
    return isinstance(error, _OF_FILE) or is_damage(error)


def is_damage(error: Exception) -> bool:
    """Whether a block of the file is corrupt."""
    return _CORRUPT in str(error) or isinstance(error, duckdb.FatalException)


def database_error(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> DatabaseError:
    """Return a one-line error for the file of a connection."""
    found = _OPERATION.search(str(error))
    if found:
        path, reason = found["path"], found["reason"].strip()
        if found["verb"] == "read":
            return DatabaseError(f"{path} cannot be read: {reason}; check the disk")
        return DatabaseError(
            f"{path} cannot be written: {reason}; committed data is kept: make room and run "
            "the command again"
        )
    if _CORRUPT in str(error):
        return damage(_path(connection), error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return DatabaseError(f"{_path(connection)}: not enough memory: {first_line(error)}")
    return DatabaseError(f"{_path(connection)} is no longer usable: {first_line(error)}")


def damage(path: object, error: duckdb.Error) -> DatabaseError:
    """Return the error for a damaged file, with DuckDB's message."""
    return DatabaseError(
        f"{path} is damaged, or from a newer DuckDB: restore a copy or collect again "
        f"({first_line(error)})"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; DuckDB adds a stack trace or a position."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _path(connection: duckdb.DuckDBPyConnection) -> str:
    try:
        rows = connection.execute(
            "select path from duckdb_databases() where database_name = current_database()"
        ).fetchall()
    except duckdb.Error:  # DuckDB rejects every statement after a fatal error
        return "the database"
    return rows[0][0] or "the database"
