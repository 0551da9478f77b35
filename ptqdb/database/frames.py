"""Converts query results to Polars frames: every DuckDB type, in the form that is needed."""

import json
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl

# float64 distinguishes decimals of this many digits, and prints them unchanged.
_FLOAT_DIGITS = 15
_PRINTABLE = frozenset(
    (
        *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint"),
        *("uinteger", "ubigint", "float", "double", "decimal", "varchar", "null"),
    )
)
# Polars also has these types.
_COMPUTABLE = _PRINTABLE | {
    *("date", "time", "time_ns", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    *("timestamp with time zone", "blob", "uuid", "enum"),
}
_WIDE = frozenset(("hugeint", "uhugeint"))
_NESTED = frozenset(("list", "array", "struct", "tuple", "map", "union", "variant"))


class Form(Enum):
    """The purpose of a frame.

    Attributes
    ----------
    COMPUTED
        For computation: numbers are 64-bit integers if all values are integers, else floats.
    STORED
        For files: as COMPUTED, but without loss of digits.
    NESTED
        For JSON: lists, structs and maps are Python objects; the rest is text.
    FLAT
        For tables: numbers, booleans and texts, as DuckDB's shell shows them.
    """

    COMPUTED = auto()
    STORED = auto()
    NESTED = auto()
    FLAT = auto()


def to_frame(relation: duckdb.DuckDBPyRelation, form: Form) -> pl.DataFrame:
    """Return the rows of a relation; columns of types that the form lacks become text.

    Columns of equal name are numbered as in a DuckDB subquery: ``a``, ``a_1``.
    """
    names, types = relation.columns, relation.types
    cells = [_cell(place, kind, form) for place, kind in enumerate(types, start=1)]
    if len(set(names)) < len(names) or any("::" in cell for cell in cells):
        relation = relation.project(", ".join(f"{cell} as c{i}" for i, cell in enumerate(cells)))
    # Polars caches the class of what it reads forever: DuckDB's own class would outlive the module,
    # and the interpreter would exit with many warnings about leaked types.
    frame = pl.DataFrame(SimpleNamespace(__arrow_c_stream__=relation.__arrow_c_stream__))
    columns = [_read(column, kind, form) for column, kind in zip(frame, types, strict=True)]
    return pl.DataFrame(
        [column.alias(name) for column, name in zip(columns, _distinct(names), strict=True)]
    )


def _cell(place: int, kind: Any, form: Form) -> str:
    """The SQL of a column in a form that Polars can read."""
    if _crosses(kind, form):
        return f"#{place}"
    if form is Form.NESTED and _is_json(kind):
        return f"to_json(#{place})::varchar"
    return f"#{place}::varchar"


def _crosses(kind: Any, form: Form) -> bool:
    """Whether Polars reads a type directly, in the required form."""
    if form in (Form.NESTED, Form.FLAT):
        return kind.id in _PRINTABLE and not (form is Form.NESTED and _is_json(kind))
    if kind.id in ("list", "array"):
        return _crosses(kind.children[0][1], form)
    if kind.id in ("struct", "map"):
        return all(_crosses(child, form) for _, child in kind.children)
    return kind.id in _COMPUTABLE


def _is_json(kind: Any) -> bool:
    return kind.id in _NESTED or str(kind) == "JSON"


def _read(column: pl.Series, kind: Any, form: Form) -> pl.Series:
    """Convert a column to the form."""
    if kind.id in _WIDE:
        return _whole(column, pl.Float64() if form is Form.COMPUTED else pl.String())
    if isinstance(column.dtype, pl.Decimal):
        return _decimal(column, form)
    if form is Form.NESTED and _is_json(kind):
        return pl.Series(column.name, list(map(_parsed, column)), dtype=pl.Object)
    return column


def _parsed(text: str | None) -> Any:
    """Parse JSON; return the text if Python cannot: too deep, or a number too long."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text


def _whole(column: pl.Series, otherwise: pl.DataType) -> pl.Series:
    """Convert to 64-bit integers, if all values are integers."""
    with suppress(pl.exceptions.InvalidOperationError):
        return column.cast(pl.Int64)
    return column.cast(otherwise)


def _decimal(column: pl.Series, form: Form) -> pl.Series:
    if column.dtype == pl.Decimal(scale=0):
        column = _whole(column, pl.Float64() if form is Form.COMPUTED else pl.Decimal(38, 0))
    if form is Form.COMPUTED:
        return column if column.dtype.is_integer() else column.cast(pl.Float64)
    if form is not Form.NESTED or column.dtype.is_integer():
        return column
    texts = column.cast(pl.String)
    digits = texts.str.replace_all(r"[-.]", "").str.strip_chars_start("0").str.len_bytes()
    is_short = bool((digits.drop_nulls() <= _FLOAT_DIGITS).all())
    return column.cast(pl.Float64) if is_short else texts


def _distinct(names: Sequence[str]) -> list[str]:
    """Make the names unique by numbering repeated ones.

    Examples
    --------
    >>> _distinct(["a", "a", "b", "a_1"])
    ['a', 'a_2', 'b', 'a_1']
    """
    taken = set(names)
    found: list[str] = []
    for name in names:
        chosen, number = name, 0
        while chosen in found or (number and chosen in taken):
            number += 1
            chosen = f"{name}_{number}"
        found.append(chosen)
    return found
