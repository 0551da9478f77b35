"""Resolve the files and folders that a user names, and write files atomically."""

import errno
import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ptqdb.errors import DataError, PtqdbError

LONGEST_SHOWN = 255
"""Characters shown of a path that is too long."""


def named_path(text: str | Path, folder: Path | None = None) -> Path:
    """Return the path of that name; if it does not exist, a leading ``~`` is the home folder.

    Parameters
    ----------
    folder
        Base of a relative path; None: the working folder.

    Raises
    ------
    DataError
        The system cannot look up the path: it is too long, or the user may not read its folder.

    Examples
    --------
    >>> named_path("images[1]", Path("studies")).as_posix()
    'studies/images[1]'
    """
    path = Path(text) if folder is None else folder / text
    if is_there(path):
        return path
    try:
        home = Path(text).expanduser()
    except RuntimeError:  # no such user: take the name literally
        return path
    home = home if folder is None else folder / home
    is_there(home)
    return home


def is_there(path: Path) -> bool:
    """Whether a file or folder exists at that path.

    Raises
    ------
    DataError
        The system cannot look up the path.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise DataError(f"{shorten(path)} cannot be looked up: {error.strerror}") from error
    except ValueError:  # a null byte
        return False
    return True


def is_file(path: Path) -> bool:
    """Whether a regular file is at that path; False if the system cannot look it up."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if they do not exist.

    Raises
    ------
    DataError
        It cannot be created, or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"the folder {shorten(folder)} cannot be created: {reason}; choose another place"
        ) from error


def shorten(path: Path) -> str:
    """The path for a message, truncated if it is too long for any system."""
    text = str(path)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def regular_file(path: Path) -> Path:
    """Return the path, unless it is a pipe or a device: opening one may block forever.

    Raises
    ------
    OSError
        It is neither a regular file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path


def without_magic(path: str | Path) -> Path:
    """Return a path that Polars and DuckDB take literally.

    In a relative path they expand ``~`` to the home folder, even if a folder of that name exists,
    and take a prefix such as ``md:`` or ``file:`` for a service.
    """
    return Path(path).absolute()


def matching_paths(pattern: str) -> list[str]:
    """Return the files that a glob matches, sorted.

    Names of existing folders are taken literally: if a folder ``data[1]`` exists,
    ``data[1]/*.parquet`` matches the files in it.
    """
    path = Path(pattern)
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    escaped = Path(glob.escape(str(folder))) / path.relative_to(folder)
    return sorted(glob.glob(str(escaped), recursive=True))  # noqa: PTH207 (absolute patterns)


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Yield a path in the same folder to write to; after the block it replaces the file.

    If the block fails, the new file is removed and the old one stays unchanged. For a link, its
    target is replaced. Anything but a regular file, such as ``/dev/stdout``, is written directly.

    Raises
    ------
    DataError
        The file cannot be written; the message gives the path and the system's reason.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            yield path
            return
        with TemporaryDirectory(dir=target.parent, prefix=".", ignore_cleanup_errors=True) as place:
            partial = Path(place) / target.name
            try:
                yield partial
            except Exception as error:
                reason = system_reason(error, partial)
                if reason is None:
                    raise
                raise _unwritable(path, reason) from error
            _take_place(partial, target)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def _take_place(partial: Path, target: Path) -> None:
    """Sync a file to disk and rename it; it keeps the permissions of the file it replaces."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    if target.exists():
        partial.chmod(target.stat().st_mode & 0o7777)
    partial.replace(target)


def _unwritable(path: Path, reason: str) -> DataError:
    return DataError(
        f"expected to write {shorten(path)}, found: {reason}; make room there or choose another "
        "place"
    )


def named_reason(message: str) -> str | None:
    """Return the system's reason for the errno in a message of Rust or DuckDB; None without one.

    >>> named_reason("failed to write (os error 28)")
    'No space left on device'
    """
    number = re.search(r"\(os error (\d+)\)|\"errno\":\"(\d+)\"", message)
    return os.strerror(int(number[1] or number[2])) if number else None


def system_reason(error: Exception, path: Path) -> str | None:
    """Return why the system refuses to write a file; None if the error has another cause.

    C++ and Rust libraries report the errno in their own words, or only that the file is shorter
    than expected. In the latter case, writing a few more bytes finds the reason.

    Parameters
    ----------
    path
        The file that was being written.
    """
    if isinstance(error, PtqdbError):
        return None
    if isinstance(error, OSError):
        return error.strerror or str(error)
    reason = named_reason(str(error))
    if reason is not None:
        return reason
    try:
        with path.open("rb+", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            file.write(bytes(4096))
    except FileNotFoundError:
        return None
    except OSError as refused:
        return refused.strerror
    return None
