"""What DuckDB raises where its file cannot be read or written, as one line that names the file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from ptqdb.errors import DatabaseError

_OF_FILE = (duckdb.OperationalError, duckdb.FatalException, duckdb.InternalError)
"""The disk or the memory is full, the file went away, or its content makes no sense."""
_CORRUPT = "Corrupt database file"
_OPERATION = re.compile(
    r'ould not (?P<verb>\w+)[^"]*file[^"]*"(?P<path>[^"]+)": (?P<reason>[^"\n]+)'
)


@contextmanager
def file_errors(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Raise what is wrong with the file of a connection, or its disk, as an error of one line.

    Raises
    ------
    DatabaseError
        The file cannot be read or written. After some of these errors DuckDB refuses every
        further statement of the connection; what was committed is in the file.
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
    """Whether a block of the file is not what was written."""
    return _CORRUPT in str(error) or isinstance(error, duckdb.FatalException)


def database_error(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> DatabaseError:
    """Say in one line what is wrong with the file of a connection."""
    found = _OPERATION.search(str(error))
    if found:
        path, reason = found["path"], found["reason"].strip()
        if found["verb"] == "read":
            return DatabaseError(f"{path} cannot be read: {reason}; look after the disk")
        return DatabaseError(
            f"{path} cannot be written: {reason}; what was committed is kept: make room and run "
            "the command again"
        )
    if _CORRUPT in str(error):
        return damage(_path(connection), error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return DatabaseError(f"{_path(connection)}: not enough memory: {first_line(error)}")
    return DatabaseError(f"{_path(connection)} cannot be used any more: {first_line(error)}")


def damage(path: object, error: duckdb.Error) -> DatabaseError:
    """Say that a file is damaged, and in DuckDB's words how that shows."""
    return DatabaseError(
        f"{path} is damaged, or of a newer DuckDB: restore a copy or collect again "
        f"({first_line(error)})"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; DuckDB's go on with a stack or a position."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _path(connection: duckdb.DuckDBPyConnection) -> str:
    try:
        rows = connection.execute(
            "select path from duckdb_databases() where database_name = current_database()"
        ).fetchall()
    except duckdb.Error:  # DuckDB refuses every statement after a fatal error
        return "the database"
    return rows[0][0] or "the database"
