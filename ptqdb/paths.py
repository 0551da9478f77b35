"""Files and folders that a user names: a name is taken as it stands, never as a pattern."""

import errno
import glob
from pathlib import Path


def named_path(text: str | Path, folder: Path | None = None) -> Path:
    """The file or folder of that name; where there is none, a leading ``~`` is the home folder.

    Parameters
    ----------
    folder
        What a relative path is relative to; None: the working folder.

    Examples
    --------
    >>> named_path("images[1]", Path("studies")).as_posix()
    'studies/images[1]'
    """
    path = Path(text) if folder is None else folder / text
    if path.exists():
        return path
    try:
        home = Path(text).expanduser()
    except RuntimeError:  # there is no such user: the name means itself
        return path
    return home if folder is None else folder / home


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
