"""Panels side by side: the same chart for several networks, views or curves."""

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from ptqdb.charts.style import apply_theme, panel_columns, title


def side_by_side(
    panels: Sequence[Any],
    heading: str,
    *said: str,
    most: int = 3,
    y: Literal["shared", "independent"] = "shared",
    theme: str = "light",
) -> alt.ConcatChart:
    """Arrange panels in rows below a heading, with shared legends.

    Parameters
    ----------
    said
        Lines below the heading.
    most
        Largest number of panels in a row.
    y
        Whether all panels have the same y scale.
    """
    chart: alt.ConcatChart = (
        alt.concat(*panels, columns=panel_columns(len(panels), most), spacing=24)
        .resolve_scale(color="shared", shape="shared", x="independent", y=y)
        .properties(title=title(heading, *said))
    )
    return apply_theme(chart, theme)
