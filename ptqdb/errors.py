"""The errors that ptqdb raises on purpose: what was expected, what was found, what to do.

Messages name what was asked for as the command line does, ``--mean``. Whoever asked otherwise, by a
study file or from Python, reads the word that they wrote.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_OPTION = re.compile(r"(`[^`]*`)|--([a-z][a-z-]*)( (?=[A-Z0-9\[]))?")
# Keys of a study file by option; the other options are those of the command itself.
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
    """As the command line has it: unchanged.

    >>> in_options("--mean: expected finite numbers")
    '--mean: expected finite numbers'
    """
    return message


def in_keys(message: str) -> str:
    """With the keys of a study file; options that no study file has stay.

    >>> in_keys("--network: no such file; give --checkpoint FILE, or --replace")
    'spec: no such file; give checkpoint = FILE, or --replace'
    """
    return _reworded(message, FILE_KEYS.get, " = ")


def in_arguments(message: str) -> str:
    """With the names of Python's arguments; commands between backquotes stay.

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
def worded(wording: Callable[[str], str]) -> Iterator[None]:
    """Let errors that are raised within speak so: `in_options`, `in_keys` or `in_arguments`."""
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
    """Images, a checkpoint or a table do not have the shape that is needed."""


class ContradictionError(DataError):
    """Facts that contradict each other; the message goes on with some of them, as a table."""


class DatabaseError(PtqdbError, RuntimeError):
    """The database file cannot be opened, is locked, damaged or of another version."""


class QueryError(PtqdbError, ValueError):
    """A SQL query that failed; the message is DuckDB's own, with the position."""


class UnsupportedLayerError(PtqdbError, NotImplementedError):
    """A layer whose facts cannot be measured; the message names it."""


class MismatchError(PtqdbError, ValueError):
    """What was asked for does not fit what is stored; the message names the argument."""


class MissingExtraError(PtqdbError, ImportError):
    """A package that is needed only for what was asked; the message says how to install it."""
