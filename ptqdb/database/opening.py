"""Opens a database: rejects foreign files, creates and migrates those of ptqdb."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from ptqdb.database.definitions import are_definitions_current, load_definitions
from ptqdb.database.file_errors import damage, file_errors
from ptqdb.database.files import IN_MEMORY, BusyError, log_path, open_file, require_file
from ptqdb.database.schema import (
    applied_version,
    known_version,
    migrations,
    require_whole_schema,
)
from ptqdb.database.snapshots import Snapshot, drop_snapshot, read_snapshot, snapshot_path
from ptqdb.database.writing import transaction
from ptqdb.errors import DatabaseError

SECONDS_BETWEEN_TRIES = 0.2
MOST_TRIES = 3
"""A snapshot may disappear just when a reader opens it, since the file is free again."""


def connect(
    path: Path,
    *,
    read_only: bool,
    wait_s: float = 0.0,
    remarked: Callable[[str], None] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a database; a writer creates and migrates it and loads the macros and views.

    Files that are not a database of this or an older ptqdb are not modified.

    Parameters
    ----------
    path
        The file; for reading it must exist and be of this version of ptqdb. For writing,
        ``:memory:`` is a database without a file, and without comments on the columns of the named
        views.
    read_only
        Whether the connection only reads. Any number of processes may read at the same time; while
        one writes, no other can open the file.
    wait_s
        Seconds to wait for another process to close the file.
    remarked
        Receives a line when the wait starts.

    Raises
    ------
    DatabaseError
        The file is missing, not a regular file, not a database of ptqdb, of another version,
        damaged, open in another process, or not writable.
    """
    deadline = time.monotonic() + wait_s
    has_told = False
    while True:
        try:
            return _open_reader(path) if read_only else _open_writer(path)
        except BusyError as error:
            if time.monotonic() >= deadline:
                raise
            if not has_told and remarked is not None:
                remarked(f"{error}; waiting up to {wait_s:g} s")
            has_told = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def connect_reader(path: Path) -> tuple[duckdb.DuckDBPyConnection, Snapshot | None]:
    """Open a database for reading, or its last snapshot while a collection is writing it.

    Returns
    -------
    The connection, and the snapshot that it reads; None: the file itself.

    Raises
    ------
    DatabaseError
        As in `connect`; the file is open in another process, and there is no snapshot.
    """
    for _ in range(MOST_TRIES):
        try:
            return _open_reader(path), None
        except BusyError as error:
            busy = error
        with suppress(FileNotFoundError):
            written_at = datetime.fromtimestamp(snapshot_path(path).stat().st_mtime, UTC)
            with suppress(DatabaseError):
                connection = _open_reader(snapshot_path(path))
                return connection, read_snapshot(connection, path, written_at, busy.holder)
    raise busy


def _open_reader(path: Path) -> duckdb.DuckDBPyConnection:
    require_file(path, must_exist=True)
    reader, version = _open_known(path)
    try:
        with file_errors(reader):
            _require_current(reader, path, version)
    except BaseException:
        reader.close()
        raise
    return reader


def _open_writer(path: Path) -> duckdb.DuckDBPyConnection:
    require_file(path, must_exist=False)
    is_new = not path.exists()
    if not is_new:
        _open_known(path)[0].close()
    try:
        writer = open_file(path, read_only=False)
    except BusyError:
        raise
    except DatabaseError:
        if is_new:
            _delete(path)
        raise
    try:
        with file_errors(writer):
            version = applied_version(writer, path)
            is_new = is_new and version == 0
            _migrate(writer, version)
            load_definitions(writer, is_commented=path != IN_MEMORY)
    except BaseException:
        if is_new:
            _delete(path)
        writer.close()
        raise
    drop_snapshot(path)
    return writer


def _delete(path: Path) -> None:
    """Delete an empty file that was to become a database."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        log_path(path).unlink(missing_ok=True)


def _open_known(path: Path) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Open a file for reading, if it is a complete database of this or an older ptqdb."""
    reader = open_file(path, read_only=True)
    try:
        try:
            version = applied_version(reader, path)
            if version > 0:
                require_whole_schema(reader, path, version)
        except duckdb.Error as error:
            raise damage(path, error) from error
    except BaseException:
        reader.close()
        raise
    return reader, version


def confine(connection: duckdb.DuckDBPyConnection) -> None:
    """Permanently restrict a connection to its database: no other files, extensions or network."""
    for setting in (
        "allow_persistent_secrets = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")


def _require_current(connection: duckdb.DuckDBPyConnection, path: Path, version: int) -> None:
    if version < known_version():
        found = f"schema version {version}, but this ptqdb needs {known_version()}"
    elif not are_definitions_current(connection):
        found = "the views of another version of ptqdb"
    else:
        return
    raise DatabaseError(f"{path} has {found}: update it with `ptqdb collect`")


def _migrate(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Apply the migrations after a version, each with its record in one transaction."""
    for number, file in migrations().items():
        if number > version:
            with transaction(connection):
                connection.execute(file.read_text(encoding="utf-8"))
                connection.execute(
                    "insert into migration values (?, ?, ?)",
                    [number, file.stem, datetime.now(UTC).replace(tzinfo=None)],
                )
