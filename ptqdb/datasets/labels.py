"""Convert labels of any kind to class numbers; errors name file and row."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ptqdb.defaults import MOST_CLASSES
from ptqdb.errors import DataError

# More classes than any classifier has: larger labels are ids of something else.


def read_class_names(labels: Iterable[pl.Series]) -> tuple[str, ...]:
    """Return the classes that occur: sorted texts, False and True, or 0 to the largest number.

    Parameters
    ----------
    labels
        Of all splits, so that a class missing from one split does not shift the others.

    Raises
    ------
    DataError
        A number too large for a class number.
    """
    present = [_plain(series).drop_nulls() for series in labels]
    if any(series.dtype == pl.String for series in present):
        return tuple(sorted({str(name) for series in present for name in series.unique()}))
    if any(series.dtype == pl.Boolean for series in present):
        return ("false", "true")
    numbers = pl.concat(
        [series.cast(pl.Int128).rename("") for series in present if _is_number(series)]
        or [pl.Series([], dtype=pl.Int128)]
    )
    largest = -1 if numbers.is_empty() else numbers.sort()[-1]
    if largest >= MOST_CLASSES:
        raise DataError(
            f"expected labels that number the classes from 0, found {largest}; "
            "give the column of the class numbers as --label-column"
        )
    return tuple(str(number) for number in range(largest + 1))


def declared_names(metadata: str, column: str) -> tuple[str, ...]:
    """Return the class names that Hugging Face metadata declare for a column.

    Returns none if the metadata are malformed: they come from outside, and the labels are usable
    without them.

    Parameters
    ----------
    metadata
        JSON, such as ``{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}``.

    Examples
    --------
    >>> declared_names('{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}', "label")
    ('cat', 'dog')
    >>> declared_names('{"info": {"features": null}}', "label")
    ()
    """
    try:
        found: Any = json.loads(metadata)
    except (ValueError, RecursionError):
        return ()
    for key in ("info", "features", column, "names"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        return ()
    return tuple(found) if len(set(found)) == len(found) else ()


def class_numbers(
    labels: pl.Series, class_names: Sequence[str], origin: Callable[[int], str]
) -> NDArray[np.int64]:
    """Return the class number of each label: int64, (N,).

    Parameters
    ----------
    labels
        Whole numbers, texts or booleans.
    origin
        Returns file and row of the label at an index, for messages.

    Raises
    ------
    DataError
        Labels of another type, a missing label, or a label outside the classes.
    """
    labels = _plain(labels)
    if not (_is_number(labels) or labels.dtype in (pl.String, pl.Boolean)):
        raise DataError(
            f"expected labels that are whole numbers, texts or booleans in {origin(0)}, "
            f"found {labels.dtype}"
        )
    missing = labels.is_null().arg_max()
    if labels.null_count() and missing is not None:
        raise DataError(f"expected a label in {origin(missing)}, found none")
    if labels.dtype == pl.String:
        numbers = {name: number for number, name in enumerate(class_names)}
        bad = ~labels.is_in(list(numbers))
        valid = f"that name one of {len(class_names)} classes"
    else:
        labels = labels.cast(pl.Int128)
        bad = (labels < 0) | (labels >= len(class_names))
        valid = f"in 0..{len(class_names) - 1}" if class_names else "from 0 up"
    first = bad.arg_max()
    if bad.any() and first is not None:
        hint = "; -1 marks a split without labels" if labels[first] == -1 else ""
        raise DataError(f"expected labels {valid}, found {labels[first]} in {origin(first)}{hint}")
    if labels.dtype == pl.String:
        return np.array([numbers[name] for name in labels], np.int64)
    return labels.cast(pl.Int64).to_numpy(writable=True)


def notes_on_classes(labels: pl.Series, class_names: Sequence[str]) -> tuple[str, ...]:
    """Return a note for text labels: how they were numbered."""
    if _plain(labels).dtype != pl.String:
        return ()
    return ("the labels are texts: " + sorted_as_text(class_names),)


def sorted_as_text(class_names: Sequence[str]) -> str:
    """Describe how the classes were numbered."""
    shown = ", ".join(f"{name} = {number}" for number, name in enumerate(class_names[:3]))
    return f"classes are numbered alphabetically, {shown}" + (
        ", ..." if len(class_names) > 3 else ""
    )


def _plain(labels: pl.Series) -> pl.Series:
    return labels.cast(pl.String) if labels.dtype in (pl.Categorical, pl.Enum) else labels


def _is_number(labels: pl.Series) -> bool:
    return labels.dtype.is_integer()
