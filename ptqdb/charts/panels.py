"""Panels side by side: the same picture of several networks, views or curves."""

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from ptqdb.charts.style import columns_of, themed, title


def side_by_side(
    panels: Sequence[Any],
    heading: str,
    *said: str,
    most: int = 3,
    y: Literal["shared", "independent"] = "shared",
    theme: str = "light",
) -> alt.ConcatChart:
    """Put panels into rows beneath a heading; they share their legends.

    Parameters
    ----------
    said
        Lines beneath the heading.
    most
        Panels in a row.
    y
        Whether all panels have the same scale of y.
    """
    chart: alt.ConcatChart = (
        alt.concat(*panels, columns=columns_of(len(panels), most), spacing=24)
        .resolve_scale(color="shared", shape="shared", x="independent", y=y)
        .properties(title=title(heading, *said))
    )
    return themed(chart, theme)
