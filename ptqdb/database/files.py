"""Opens DuckDB files: checks them first, and explains why one cannot be opened."""

import re
import stat
from contextlib import suppress
from pathlib import Path

import duckdb

from ptqdb.database.file_errors import damage, first_line
from ptqdb.errors import DatabaseError, DataError
from ptqdb.support.paths import is_there, shorten, without_magic

# Storage v1.5.0 is the newest that the DuckDB shell can open. Small blocks: every table and index
# takes at least one; with the default size an empty database has 5 MiB. A wrong file must not make
# DuckDB download an extension to read it.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": "v1.5.0",
    "default_block_size": "16384",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_MAGIC_OFFSET, _MAGIC = 8, b"DUCK"
# The first entry of a log: its type, 98, in field 100, and its version in field 101.
_LOG_MAGIC = b"d\x00be\x00"
_UNWRITABLE = re.compile(
    "Permission denied|Read-only file system|No space left on device|File too large"
)
IN_MEMORY = Path(":memory:")

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class BusyError(DatabaseError):
    """The file is open for writing in another process.

    Attributes
    ----------
    holder
        The process that has it open; None if unknown.
    """

    def __init__(self, message: str, holder: int | None = None):
        super().__init__(message)
        self.holder = holder


def log_path(path: Path) -> Path:
    """Return the path of DuckDB's log of committed data that is not yet in the file."""
    return path.with_name(f"{path.name}.wal")


def require_file(path: Path, *, must_exist: bool) -> None:
    """Raise for files on which DuckDB would hang, or which it would silently misread.

    The file itself is not opened: if this process is writing it, closing a second handle would
    release DuckDB's lock.

    Raises
    ------
    DatabaseError
        The path is a folder, a FIFO or a device; the log next to it is not DuckDB's; the file is
        missing but required; or its folder is missing.
    """
    try:
        exists = is_there(path)
    except DataError as error:
        raise DatabaseError(f"{error}; name another --db") from error
    if exists:
        _require_regular(path)
        if path.stat().st_size == 0:
            raise DatabaseError(f"{path} is not a DuckDB file but empty: name another or delete it")
        _require_log(path)
    elif must_exist:
        raise DatabaseError(f"{path} does not exist: create it with `ptqdb collect`")
    elif not path.parent.is_dir():
        raise DatabaseError(f"the folder {path.parent} does not exist: create it first")


def _require_regular(path: Path) -> None:
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder: name a database file, such as study.duckdb")
    if not path.is_file():
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode), "not a regular file")
        raise DatabaseError(f"{path} is {kind}: name a database file, such as study.duckdb")


def _require_log(path: Path) -> None:
    """Raise for a log that DuckDB would silently ignore, losing the data committed in it."""
    log = log_path(path)
    if not log.exists():
        return
    _require_regular(log)
    try:
        with log.open("rb") as file:
            head = file.read(len(_LOG_MAGIC))
    except OSError as error:
        raise DatabaseError(f"{log} cannot be read: {error.strerror}") from error
    if not _LOG_MAGIC.startswith(head):
        raise DatabaseError(
            f"{log} is damaged, and with it the data last committed to {path}{_missing(path)}; "
            "restore a copy, or delete that file and collect again"
        )


def _missing(path: Path) -> str:
    """The number of cells of the last run that are not in the file, by the run's record."""
    try:
        with open_file(path, read_only=True) as connection:
            row = connection.execute(
                "with last as (select unnest(cells) as cell from collection_run "
                "where run_id = (select max(run_id) from collection_run)) "
                "select count(*), count(m.network) from last left join missing_cell as m "
                "on m.network = cell.network "
                "and m.number_format = format_name(cell.number_format, cell.scheme) "
                "and m.scheme = cell.scheme and m.scope = cell.scope"
            ).fetchone()
    except (duckdb.Error, DatabaseError):
        return ""
    if row is None or not row[1]:
        return ""
    return f": {row[1]} of the {row[0]} cells of the last run are missing"


def open_file(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open a file without changes.

    Raises
    ------
    BusyError
        It is open in another process, or in this one with another mode.
    DatabaseError
        DuckDB cannot open it.
    """
    try:
        file = path if path == IN_MEMORY else without_magic(path)
        connection = duckdb.connect(file, read_only=read_only, config=_CONFIG)
        # slow queries would print a bar on stdout, between the data; in Jupyter, where the bar is a
        # widget, the setting fails
        with suppress(duckdb.InvalidInputException):
            connection.execute("set enable_progress_bar = false")
        return connection
    except duckdb.Error as error:
        raise _opening_error(path, error, read_only=read_only) from error


def _opening_error(path: Path, error: duckdb.Error, *, read_only: bool) -> DatabaseError:
    """Return a one-line error for why DuckDB did not open the file."""
    message = str(error)
    if "Conflicting lock" in message:
        holder = re.search(r"PID (\d+)", message)
        process = f"another process (PID {holder[1]})" if holder else "another process"
        # Readers block only writers, so whoever blocks a reader is a writer.
        said = (
            f"{path} is open for writing in {process}: wait for it to end"
            if read_only
            else f"{path} is open in {process}, and can be written only while no other process "
            "has it open, even for reading: wait for that one to end, or end it"
        )
        return BusyError(said, int(holder[1]) if holder else None)
    if "different configuration" in message:
        return BusyError(
            f"{path} is already open in this process, in another mode: close that connection"
        )
    log = re.search(r'(?:replaying WAL file "[^"]+": |Error: (?=This WAL was ))([^\n]+)', message)
    if log:
        return DatabaseError(
            f"{log_path(path)} is damaged or belongs to another file ({log[1]}): restore "
            f"a copy, or delete that file to open {path} without the last commits"
        )
    if path.exists() and not _has_magic(path):
        return DatabaseError(f"{path} is not a DuckDB file: name a database of ptqdb")
    reason = _UNWRITABLE.search(message)
    if reason:
        return DatabaseError(f"{path} cannot be written: {reason[0]}")
    if not path.exists():
        return DatabaseError(f"{shorten(path)} cannot be created: {first_line(error)}")
    return damage(path, error)


def _has_magic(path: Path) -> bool:
    """Whether a file starts with DuckDB's magic bytes; this process must not have it open."""
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_OFFSET + len(_MAGIC))[_MAGIC_OFFSET:] == _MAGIC
    except OSError:
        return True  # DuckDB's own message is better
