"""Files and folders that a user names: how a name is read, and how a file is written whole."""

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
"""Characters of a path in a message about a path that is too long."""


def named_path(text: str | Path, folder: Path | None = None) -> Path:
    """The file or folder of that name; where there is none, a leading ``~`` is the home folder.

    Parameters
    ----------
    folder
        What a relative path is relative to; None: the working folder.

    Raises
    ------
    DataError
        The system does not look up such a path: it is too long, or its folder is closed to the
        user.

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
    except RuntimeError:  # there is no such user: the name means itself
        return path
    home = home if folder is None else folder / home
    is_there(home)
    return home


def is_there(path: Path) -> bool:
    """Whether a file or folder of that path exists.

    Raises
    ------
    DataError
        The system does not look up such a path.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise DataError(f"{shortened(path)} cannot be looked up: {error.strerror}") from error
    except ValueError:  # a null byte
        return False
    return True


def is_file(path: Path) -> bool:
    """Whether a regular file has that path; a path that the system does not look up is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def make_folder(folder: Path) -> None:
    """Create a folder, and those around it, where it is not there yet.

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
            f"the folder {shortened(folder)} cannot be created: {reason}; choose another place"
        ) from error


def shortened(path: Path) -> str:
    """The path for a message; the end of one that no system takes is left out."""
    text = str(path)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def regular_file(path: Path) -> Path:
    """The path, unless a pipe or a device is there: whoever opens such a one may wait for ever.

    Raises
    ------
    OSError
        It is neither a regular file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path


def without_magic(path: str | Path) -> Path:
    """The path for Polars and DuckDB, which read more into a relative one.

    They take ``~`` for the home folder, even where there is a folder of that name, and a
    beginning such as ``md:`` or ``file:`` for a service.
    """
    return Path(path).absolute()


def matching_paths(pattern: str) -> list[str]:
    """The files that a glob matches, sorted.

    Folders that exist under the very name are not patterns: where there is a folder ``data[1]``,
    ``data[1]/*.parquet`` is what lies in it.
    """
    path = Path(pattern)
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    escaped = Path(glob.escape(str(folder))) / path.relative_to(folder)
    return sorted(glob.glob(str(escaped), recursive=True))  # noqa: PTH207 (absolute patterns)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path in the same folder to write to; what the block wrote takes the place of the file.

    Whatever ends the block early, nothing of the new file is left and an old one stays as it
    was. The file behind a link is replaced, not the link; what is no regular file, such as
    ``/dev/stdout``, is written to directly.

    Raises
    ------
    DataError
        The file cannot be written; the message has the path and the system's reason.
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
    """Rename a file once it is on the disk; it keeps the rights of the one that it replaces."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    if target.exists():
        partial.chmod(target.stat().st_mode & 0o7777)
    partial.replace(target)


def _unwritable(path: Path, reason: str) -> DataError:
    return DataError(
        f"expected to write {shortened(path)}, found: {reason}; make room there or choose another "
        "place"
    )


def named_reason(message: str) -> str | None:
    """The system's reason whose number stands in a message of Rust or of DuckDB; None without.

    >>> named_reason("failed to write (os error 28)")
    'No space left on device'
    """
    number = re.search(r"\(os error (\d+)\)|\"errno\":\"(\d+)\"", message)
    return os.strerror(int(number[1] or number[2])) if number else None


def system_reason(error: Exception, path: Path) -> str | None:
    """Why the system refuses to write a file; None where an error has another cause.

    Libraries that write from C++ or Rust say so in words of their own, with the system's number
    of the error, or only that the file is shorter than expected: then a few bytes more tell.

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
