"""The facts that ship with the package, as a database in the user's cache."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import duckdb

from ptqdb.database import connect
from ptqdb.database.exchange import import_study
from ptqdb.errors import DatabaseError, DataError
from ptqdb.resources import data_folder, sql_folder

_PREFIX = "embedded-"


def embedded_facts_folder() -> Path | None:
    """Return the folder of the embedded study's exported facts; None if there is none."""
    try:
        folder = data_folder() / "embedded" / "facts"
    except DataError:
        return None
    return folder if folder.is_dir() else None


@contextmanager
def open_embedded_facts(*, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the embedded study's facts; for writing, to store fits there.

    The first call imports them into a file in the user's cache folder (``$XDG_CACHE_HOME/ptqdb``,
    by default ``~/.cache/ptqdb``); later ones open it directly. The file is named after the content
    of the facts and the SQL, and replaces those of other versions. If the cache is not writable,
    the file exists only as long as the connection.

    Raises
    ------
    DataError
        This installation has no facts, or they are damaged.
    """
    folder = embedded_facts_folder()
    if folder is None:
        raise DataError("this installation ships without facts: collect with `ptqdb collect`")
    with ExitStack() as stack:
        try:
            connection = _open_cached(folder, read_only=read_only)
        except (OSError, RuntimeError):  # also for a user without a home, or a full disk
            place = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            connection = connect(_build(folder, Path(place)), read_only=read_only)
        yield stack.enter_context(connection)


def _open_cached(folder: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open the cached database; build it if it is missing or cannot be opened.

    Raises
    ------
    OSError, RuntimeError
        The cache cannot be written.
    """
    cache = _cache_folder()
    path = cache / f"{_PREFIX}{_content_key(folder)}.duckdb"
    if path.exists():
        with suppress(DatabaseError):
            return connect(path, read_only=read_only)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as place:
        # Renamed when complete: other processes never see a partial database.
        _build(folder, Path(place)).replace(path)
    for other in cache.glob(f"{_PREFIX}*.duckdb"):
        if other != path:
            with suppress(OSError):
                other.unlink()
    return connect(path, read_only=read_only)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "ptqdb"


def _content_key(folder: Path) -> str:
    """Return a digest of the facts and of the SQL of tables, views and divergences."""
    digest = hashlib.sha256()
    files = [file for root in (folder, sql_folder()) for file in root.rglob("*") if file.is_file()]
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _build(folder: Path, place: Path) -> Path:
    path = place / "embedded.duckdb"
    with connect(path, read_only=False) as connection:
        import_study(connection, folder)
    return path
