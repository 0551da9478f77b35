"""Panels side by side: the same picture of several networks, views or curves."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from ptqdb.charts.style import columns_of, themed, title


def side_by_side(
    panels: Sequence[Any], heading: str, *said: str, most: int = 3, theme: str = "light"
) -> alt.ConcatChart:
    """Put panels into rows beneath a heading; they share their legends and the scale of y.

    Parameters
    ----------
    said
        Lines beneath the heading.
    most
        Panels in a row.
    """
    chart: alt.ConcatChart = (
        alt.concat(*panels, columns=columns_of(len(panels), most), spacing=24)
        .resolve_scale(color="shared", shape="shared", x="independent", y="shared")
        .properties(title=title(heading, *said))
    )
    return themed(chart, theme)
