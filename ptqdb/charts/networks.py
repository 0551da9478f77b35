"""The fit of each network in its own small panel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt

from ptqdb.charts.axes import Columns, XAxis, axis_title
from ptqdb.charts.curves import curve_layers
from ptqdb.charts.panels import side_by_side
from ptqdb.charts.points import drawable_rows, points_layer
from ptqdb.charts.style import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    family_order,
    layer_charts,
    panel_columns,
    title,
)
from ptqdb.fitting.view_fit import ALL, GroupFit

if TYPE_CHECKING:
    import polars as pl


def networks_chart(
    frame: "pl.DataFrame",
    fits: Sequence[GroupFit],
    *,
    view: str,
    x_scale: str = "auto",
    columns: Columns | None = None,
    theme: str = "light",
) -> alt.ConcatChart:
    """Draw loss over divergence, one panel per network, with the curves fitted to it alone.

    Parameters
    ----------
    frame, fits, view, x_scale, columns, theme
        As in `ptqdb.charts.fit.fit_chart`; all panels have the same x axis.

    Raises
    ------
    DataError
        No row has a divergence and a loss.
    UsageError
        No such scale or theme.
    """
    rows = drawable_rows(frame)
    names = sorted(set(rows["network"]))
    axis = XAxis.of(rows["divergence"].to_numpy(), x_scale)
    panels = []
    for place, name in enumerate(names):
        of_network = [fit for fit in fits if fit.group == name]
        below, above = curve_layers(of_network, axis, whole_x=True)
        points = points_layer(
            drawable_rows(frame, name, columns),
            axis,
            axis_title(view) if columns is None else columns.x,
            small=True,
            whole_x=True,
            y_named=place % panel_columns(len(names)) == 0,
            families=family_order(rows["family"]),
            columns=columns,
        )
        heading = title(name, *(_goodness(fit, len(of_network)) for fit in of_network), small=True)
        panel = layer_charts(*below, points, *above)
        panels.append(panel.properties(width=PANEL_WIDTH, height=PANEL_HEIGHT, title=heading))
    curves = ", ".join(dict.fromkeys(fit.curve for fit in fits if fit.group != ALL))
    return side_by_side(
        panels,
        f"{view}: each network",
        f"{curves} fitted to each network alone; "
        "faint step: isotonic regression (upper bound); dashed: extrapolation",
        axis.note,
        theme=theme,
    )


def _goodness(fit: GroupFit, curve_count: int) -> str:
    curve = f"{fit.curve}: " if curve_count > 1 else ""
    if fit.r_squared is None:
        return f"{curve}not fitted: {fit.error}"
    held_out = fit.held_out_r_squared
    return (
        f"{curve}R² {fit.r_squared:.4f}"
        + (f", held out {held_out:.4f}" if held_out is not None else "")
        + (f", ceiling {fit.ceiling_r_squared:.4f}" if fit.ceiling_r_squared is not None else "")
    )
