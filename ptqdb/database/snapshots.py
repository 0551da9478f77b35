"""Copies of a database for readers while one process is writing it."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import duckdb

from ptqdb.database.file_errors import file_errors
from ptqdb.database.writing import checkpoint

ROOM_FACTOR, LEAST_ROOM = 2, 64_000_000
"""A snapshot must leave this multiple of its size, and these bytes, free for the collection."""

# The number of networks of the current run, and of those without missing cells.
_PROGRESS = """
    with networks as (
        select cell.network, count(missing.network) as missing_count
        from (select unnest(cells) as cell from collection_run where outcome = 'running')
        left join missing_cell as missing
            on cell.network = missing.network
            and format_name(cell.number_format, cell.scheme) = missing.number_format
            and cell.scheme = missing.scheme and cell.scope = missing.scope
        group by cell.network
    )
    select count(*), count(*) filter (missing_count = 0) from networks
"""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that is read while its database is being written.

    Attributes
    ----------
    path
        The database.
    time
        When the snapshot was published, in UTC.
    holder
        The process that is writing the database; None if unknown.
    networks_done, networks_announced
        Number of complete networks of the current run, and of all its networks.
    """

    path: Path
    time: datetime
    holder: int | None
    networks_done: int
    networks_announced: int

    def __str__(self) -> str:
        local = self.time.astimezone()
        is_today = local.date() == datetime.now().astimezone().date()
        shown = f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M:%S}"
        by = "" if self.holder is None else f" (PID {self.holder})"
        done = f", {self.networks_done} of {self.networks_announced} networks"
        return (
            f"{self.path} is being written{by}: reading the snapshot of {shown}"
            f"{done if self.networks_announced else ''}"
        )


def snapshot_path(path: Path) -> Path:
    """Return the path of a database's snapshot."""
    return path.with_name(f"{path.name}.snapshot")


def drop_snapshot(path: Path) -> None:
    """Delete a snapshot left by a killed process; only for the writer of the database."""
    with suppress(OSError):
        snapshot_path(path).unlink(missing_ok=True)


def read_snapshot(
    connection: duckdb.DuckDBPyConnection, path: Path, time: datetime, holder: int | None
) -> Snapshot:
    """Describe the snapshot of a connection, from its record of the run."""
    with file_errors(connection):
        announced, done = connection.execute(_PROGRESS).fetchall()[0]
    return Snapshot(path, time, holder, done, announced)


class SnapshotPublisher:
    """Publishes copies of a database that this process writes; a context manager.

    Enter it after opening the database, and leave it after closing: it keeps the file open, since
    closing it would release DuckDB's lock.

    Parameters
    ----------
    remarked
        Receives a line if a snapshot cannot be written; the database is unaffected.
    """

    def __init__(self, path: Path, remarked: Callable[[str], None]) -> None:
        self._path, self._remarked = path, remarked
        self._target = snapshot_path(path)
        self._file: FileIO | None = None
        self._published: int | None = None
        self._has_failed = False

    def __enter__(self) -> "SnapshotPublisher":
        self._file = self._path.open("rb", buffering=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The next writer may have published its own by now.
        with suppress(OSError):
            if self._target.stat().st_ino == self._published:
                self._target.unlink()
        if self._file is not None:
            self._file.close()

    def publish(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Checkpoint, copy the file, and replace the last snapshot by the copy.

        Raises
        ------
        DatabaseError
            The database itself cannot be written.
        """
        assert self._file is not None
        checkpoint(connection)
        try:
            size = os.fstat(self._file.fileno()).st_size
            free = shutil.disk_usage(self._path.parent).free
            if free < size + max(ROOM_FACTOR * size, LEAST_ROOM):
                raise OSError(f"{free / 1e6:.0f} MB are free, {size / 1e6:.0f} MB would be copied")
            with TemporaryDirectory(
                dir=self._path.parent, prefix=".", ignore_cleanup_errors=True
            ) as place:
                copied = Path(place) / self._target.name
                _copy(self._file, copied, size)
                inode = copied.stat().st_ino
                copied.replace(self._target)
            self._published = inode
        except OSError as error:
            with suppress(OSError):
                self._target.unlink(missing_ok=True)
            if not self._has_failed:
                self._has_failed = True
                self._remarked(
                    f"{self._target} cannot be written: {error.strerror or error}; "
                    f"{self._path} cannot be read before the collection ends"
                )


def _copy(source: FileIO, target: Path, size: int) -> None:
    """Copy a file with its permissions; as a reflink if the file system supports it."""
    with target.open("wb") as file:
        os.fchmod(file.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
        copied = 0
        with suppress(OSError, AttributeError):
            while copied < size:
                step = os.copy_file_range(
                    source.fileno(), file.fileno(), size - copied, copied, copied
                )
                if step == 0:
                    break
                copied += step
        if copied < size:
            source.seek(copied)
            file.seek(copied)
            shutil.copyfileobj(source, file)
