"""Opens a database: refuses what is none of ptqdb, creates and migrates what is."""

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from ptqdb.database.definitions import are_definitions_current, load_definitions
from ptqdb.database.reading import read_number
from ptqdb.database.writing import first_line, transaction
from ptqdb.errors import DatabaseError
from ptqdb.paths import without_magic
from ptqdb.resources import sql_folder

# Storage v1.5.0 is what the newest DuckDB shell can open. Small blocks: every table and index
# takes at least one, which at the default size makes an empty database 5 MiB. A wrong file must
# not send DuckDB to the network for an extension that reads it.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": "v1.5.0",
    "default_block_size": "16384",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_MAGIC_OFFSET, _MAGIC = 8, b"DUCK"
IN_MEMORY = Path(":memory:")


def connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open a database; a writer creates it, migrates it and loads the macros and views.

    Nothing is written to a file that is not a database of this or an older ptqdb.

    Parameters
    ----------
    path
        The file; a reader needs one that exists and is of this ptqdb. A writer's ``:memory:``
        is a database without a file, and without comments on the columns of the named views.
    read_only
        Whether the connection only reads. Any number of processes may read at a time; while
        one writes, no other can open the file.

    Raises
    ------
    DatabaseError
        The file is missing, a folder, no database of ptqdb, of another version, damaged, open
        in another process, or may not be written.
    """
    _require_file(path, must_exist=read_only)
    if path.exists():
        reader = _open(path, read_only=True)
        try:
            _require_known_schema(reader, path)
            if read_only:
                _require_current(reader, path)
                return reader
        except BaseException:
            reader.close()
            raise
        reader.close()
    elif read_only:
        raise DatabaseError(f"{path} does not exist: create it with `ptqdb collect`")
    writer = _open(path, read_only=False)
    try:
        _migrate(writer)
        load_definitions(writer, is_commented=path != IN_MEMORY)
    except BaseException:
        writer.close()
        raise
    return writer


def confine(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep a connection to its database: no other file, no extension, no network, for good."""
    for setting in (
        "allow_persistent_secrets = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")


def _require_file(path: Path, *, must_exist: bool) -> None:
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder: name a database file, such as study.duckdb")
    if path.exists():
        try:
            with path.open("rb") as file:
                head = file.read(_MAGIC_OFFSET + len(_MAGIC))
        except OSError as error:
            raise DatabaseError(f"{path} cannot be read: {error.strerror}") from error
        if head[_MAGIC_OFFSET:] != _MAGIC:
            raise DatabaseError(f"{path} is not a DuckDB file: name a database of ptqdb")
    elif must_exist:
        raise DatabaseError(f"{path} does not exist: create it with `ptqdb collect`")
    elif not path.parent.is_dir():
        raise DatabaseError(f"the folder {path.parent} does not exist: create it first")


def _open(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    try:
        file = path if path == IN_MEMORY else without_magic(path)
        return duckdb.connect(file, read_only=read_only, config=_CONFIG)
    except duckdb.Error as error:
        raise _opening_error(path, error, read_only=read_only) from error


def _opening_error(path: Path, error: duckdb.Error, *, read_only: bool) -> DatabaseError:
    """Say in one line why DuckDB did not open the file."""
    message = str(error)
    if "Conflicting lock" in message:
        holder = re.search(r"PID (\d+)", message)
        process = f"another process (PID {holder[1]})" if holder else "another process"
        if read_only:
            return DatabaseError(f"{path} is open for writing in {process}: wait for it to end")
        return DatabaseError(
            f"{path} is open in {process}, and can be written only while no other process has it "
            "open, even to read: wait for that one to end, or end it"
        )
    if "different configuration" in message:
        return DatabaseError(
            f"{path} is already open in this process, in another mode: close that connection"
        )
    for reason in ("Permission denied", "Read-only file system", "No space left"):
        if reason in message:
            return DatabaseError(f"{path} cannot be written: {reason.lower()}")
    if not path.exists():
        return DatabaseError(f"{path} cannot be created: {first_line(error)}")
    return _damage(path, error)


def _damage(path: Path, error: duckdb.Error) -> DatabaseError:
    return DatabaseError(
        f"{path} is damaged, or of a newer DuckDB: restore a copy or collect again "
        f"({first_line(error)})"
    )


def _migrations() -> dict[int, Path]:
    """Return the files of the migrations by their number, in order."""
    return {
        int(file.name[:4]): file for file in sorted((sql_folder() / "migrations").glob("*.sql"))
    }


def _schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the last migration; 0 where the file holds no tables at all."""
    tables = connection.execute("select table_name from duckdb_tables()").fetchall()
    if not tables:
        return 0
    if ("migration",) not in tables:
        raise DatabaseError("a DuckDB file without ptqdb's tables: name a database of ptqdb")
    return read_number(connection, "select coalesce(max(version), 0) from migration")


def _require_known_schema(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        version = _schema_version(connection)
    except duckdb.Error as error:
        raise _damage(path, error) from error
    except DatabaseError as error:
        raise DatabaseError(f"{path} is {error}") from error
    if version > max(_migrations()):
        raise DatabaseError(
            f"{path} has schema version {version}, this ptqdb knows {max(_migrations())}: "
            "upgrade ptqdb"
        )


def _require_current(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    version = _schema_version(connection)
    if version < max(_migrations()):
        found = f"schema version {version}, this ptqdb needs {max(_migrations())}"
    elif not are_definitions_current(connection):
        found = "the views of another version of ptqdb"
    else:
        return
    raise DatabaseError(f"{path} has {found}: bring it up to date with `ptqdb collect`")


def _migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Apply the missing migrations, each with its record in one transaction."""
    version = _schema_version(connection)
    for number, file in _migrations().items():
        if number > version:
            with transaction(connection):
                connection.execute(file.read_text(encoding="utf-8"))
                connection.execute(
                    "insert into migration values (?, ?, ?)",
                    [number, file.stem, datetime.now(UTC).replace(tzinfo=None)],
                )
