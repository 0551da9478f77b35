"""Pieces of HTML: tables, paragraphs, code; everything is escaped."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Any

import polars as pl

from ptqdb.support.text import visible

LINES = "\n\t"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table that scrolls where it is too wide; numbers stand to the right."""
    rows = list(rows)
    numeric = [any(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    head = "".join(
        f"<th{_kind(is_number)}>{escape(visible(column))}</th>"
        for column, is_number in zip(columns, numeric, strict=True)
    )
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    content = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<div class=table><table>{content}</table></div>"


def _cell(value: Any) -> str:
    return f"<td{_kind(_is_number(value))}>{escape(plain(value))}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Number) and not isinstance(value, bool)


def _kind(is_number: bool) -> str:
    return " class=number" if is_number else ""


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


def said(*sentences: str) -> str:
    """A paragraph."""
    return "<p>" + escape(visible(" ".join(sentences))) + "</p>"


def code(text: str) -> str:
    """Lines to copy."""
    return f"<pre><code>{escape(visible(text, keep=LINES))}</code></pre>"


def frame_table(frame: pl.DataFrame) -> str:
    """A frame as a table."""
    return table(frame.columns, frame.iter_rows())
