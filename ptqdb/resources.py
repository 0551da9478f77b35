"""Locates sql/ and data/, in a checkout or an installed wheel."""

from pathlib import Path

from ptqdb.errors import DataError

_PACKAGE = Path(__file__).resolve().parent


def sql_folder() -> Path:
    """Return the folder of the SQL: migrations, macros, materialized queries and views.

    Raises
    ------
    DataError
        The installation lacks it.
    """
    return _folder("sql")


def data_folder() -> Path:
    """Return the folder of the embedded study.

    Raises
    ------
    DataError
        The installation lacks it.
    """
    return _folder("data")


def _folder(name: str, package: Path = _PACKAGE) -> Path:
    """Find the folder inside the package (a wheel's `_share`), else beside it (a checkout)."""
    candidates = (package / "_share" / name, package.parent / name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    expected = " or ".join(str(candidate) for candidate in candidates)
    raise DataError(f"expected the folder {expected}, found neither: install ptqdb again")
