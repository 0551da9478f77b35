"""Pieces of HTML: tables, paragraphs, code; everything is escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from ptqdb.support.templates import environment
from ptqdb.support.text import visible

_PIECES: Any = environment("ptqdb.report").get_template("pieces.html").module


@dataclass(frozen=True)
class _Cell:
    text: str
    is_number: bool


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table that scrolls where it is too wide; numbers are aligned to the right."""
    cells = [[_Cell(plain(value), _is_number(value)) for value in row] for row in rows]
    numeric = [any(row[place].is_number for row in cells) for place in range(len(columns))]
    return Markup(_PIECES.table(columns, cells, numeric))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Number) and not isinstance(value, bool)


class Number(str):
    """A number that has been written out."""

    __slots__ = ()


def plain(value: Any) -> str:
    """A value as a reader expects it.

    Examples
    --------
    >>> plain(None), plain(0.123456), plain(True)
    ('', '0.1235', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return visible(str(value))


def percent(value: float | None, digits: int = 1) -> Number | None:
    """A fraction in percent.

    Examples
    --------
    >>> percent(0.1234)
    '12.3 %'
    """
    return None if value is None else Number(f"{value:.{digits}%}".replace("%", " %"))


def amount(value: float | None) -> Number | None:
    """A count with a unit of thousands.

    Examples
    --------
    >>> amount(33_650_000), amount(1_460_000_000), amount(512)
    ('33.6 M', '1.46 G', '512')
    """
    if value is None:
        return None
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return Number(f"{value / size:#.3g}".rstrip(".") + f" {unit}")
    return Number(f"{value:g}")


def fixed(value: float | None, digits: int = 3) -> Number | None:
    """A number with so many digits after the point."""
    return None if value is None else Number(f"{value:.{digits}f}")


def said(*sentences: str) -> Markup:
    """A paragraph."""
    return Markup(_PIECES.said(" ".join(sentences)))


def code(text: str) -> Markup:
    """Lines to copy."""
    return Markup(_PIECES.code(text))


def subheading(text: str) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(visible(text))
