"""The errors that ptqdb raises: what was expected, what was found, what to do.

Messages are written with the options of the command line, such as ``--mean``. For a study file or a
call from Python they are reworded to its keys or arguments.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_OPTION = re.compile(r"(`[^`]*`)|--([a-z][a-z-]*)( (?=[A-Z0-9\[]))?")
# Keys of a study file by option; the other options belong to the command only.
FILE_KEYS = {
    "network": "spec",
    "dataset": "path",
    "calibration-dataset": "calibration_path",
    "dataset-root": "root",
} | {
    key.replace("_", "-"): key
    for key in (
        *("checkpoint", "weights", "name", "architecture", "mean", "std", "resize", "crop"),
        *("class_count", "seed", "images", "calibration", "image_column", "label_column"),
        *("download", "number_formats", "scopes", "device", "precision"),
    )
}


def in_options(message: str) -> str:
    """Return the message for the command line: unchanged.

    >>> in_options("--mean: expected finite numbers")
    '--mean: expected finite numbers'
    """
    return message


def in_keys(message: str) -> str:
    """Return the message with the keys of a study file; options without a key stay.

    >>> in_keys("--network: no such file; give --checkpoint FILE, or --replace")
    'spec: no such file; give checkpoint = FILE, or --replace'
    """
    return _reworded(message, FILE_KEYS.get, " = ")


def in_arguments(message: str) -> str:
    """Return the message with the names of Python arguments; commands in backquotes stay.

    >>> in_arguments("give --class-count 10, or run `ptqdb fit --help`")
    'give class_count=10, or run `ptqdb fit --help`'
    """
    return _reworded(message, lambda option: option.replace("-", "_"), "=")


def _reworded(message: str, name: Callable[[str], str | None], sign: str) -> str:
    def word(found: re.Match[str]) -> str:
        known = name(found[2]) if found[2] else None
        if known is None:
            return found[0]
        return known + (sign if found[3] else "")

    return _OPTION.sub(word, message)


_wording: Callable[[str], str] = in_arguments


@contextmanager
def reword(wording: Callable[[str], str]) -> Iterator[None]:
    """Reword errors raised within by `in_options`, `in_keys` or `in_arguments`."""
    global _wording
    before, _wording = _wording, wording
    try:
        yield
    finally:
        _wording = before


class PtqdbError(Exception):
    """Base class: the message is one line that a user can act on."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._wording = _wording

    def __str__(self) -> str:
        return self._wording(super().__str__())


class UsageError(PtqdbError, ValueError):
    """An argument names something that does not exist or cannot be combined."""


class DataError(PtqdbError, ValueError):
    """Images, a checkpoint or a table do not have the required shape."""


class ContradictionError(DataError):
    """Facts contradict each other; the message ends with a table of some of them."""


class DatabaseError(PtqdbError, RuntimeError):
    """The database file cannot be opened, is locked, is damaged or has another version."""


class QueryError(PtqdbError, ValueError):
    """A SQL query failed; the message is DuckDB's own, with the position."""


class UnsupportedLayerError(PtqdbError, NotImplementedError):
    """A layer whose facts cannot be measured; the message names it."""


class MismatchError(PtqdbError, ValueError):
    """The request does not match what is stored; the message names the argument."""


class MissingExtraError(PtqdbError, ImportError):
    """An optional package is missing; the message says how to install it."""
