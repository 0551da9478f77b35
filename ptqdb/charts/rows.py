"""Rows in a chart, as they are: neither copied nor looked through at every step of making it."""

from typing import Any

import altair as alt
import polars as pl

from ptqdb.support.text import visible


class Rows(alt.InlineData):
    """Rows that the copies of a chart share: Altair copies a chart at every step of making it."""

    def __deepcopy__(self, memo: Any) -> "Rows":
        return self

    def to_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The rows themselves, which are plain values."""
        return {"values": self._kwds["values"]}


def inline(rows: pl.DataFrame) -> Rows:
    """Put rows into the chart; Altair refuses a frame of more than 5,000.

    Control characters in their texts are made visible: they end the program that draws pictures.
    """
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    odd = [name for name in texts if any(map(_is_odd, rows[name].unique()))]
    shown = rows.with_columns(pl.col(odd).map_elements(visible, pl.String)) if odd else rows
    return Rows(values=shown.to_dicts())


def _is_odd(text: str | None) -> bool:
    return text is not None and visible(text) != text
