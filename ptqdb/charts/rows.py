"""Chart data that Altair neither copies nor validates at every step."""

from typing import Any

import altair as alt
import polars as pl

from ptqdb.support.text import visible


class Rows(alt.InlineData):
    """Rows shared by the copies of a chart: Altair copies a chart at every step."""

    def __deepcopy__(self, memo: Any) -> "Rows":
        return self

    def to_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the rows unchanged; they are plain values."""
        return {"values": self._kwds["values"]}


def inline(rows: pl.DataFrame) -> Rows:
    """Convert a frame to inline data; Altair refuses frames of more than 5,000 rows.

    Control characters in texts are escaped, since they crash the renderer.
    """
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    odd = [name for name in texts if any(map(_is_odd, rows[name].unique()))]
    shown = rows.with_columns(pl.col(odd).map_elements(visible, pl.String)) if odd else rows
    return Rows(values=shown.to_dicts())


def _is_odd(text: str | None) -> bool:
    return text is not None and visible(text) != text
