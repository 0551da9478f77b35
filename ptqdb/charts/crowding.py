"""How powers of two crowd into one column of points, whatever their width."""

from typing import Any

import altair as alt
import polars as pl

from ptqdb.charts.axes import axis_title
from ptqdb.charts.panels import side_by_side
from ptqdb.charts.points import drawable_rows, inline
from ptqdb.charts.style import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    SMALL_AXIS,
    columns_of,
    format_key,
    layered,
    title,
)
from ptqdb.errors import DataError

FAMILY = "POT"
# Points that lie nearer than this share of each axis have one label together.
NEAR = 0.07


def crowding_chart(frame: pl.DataFrame, *, view: str, theme: str = "light") -> alt.ConcatChart:
    """Draw the POT formats of each network, named, before all its others in grey.

    Parameters
    ----------
    frame, view, theme
        As in `ptqdb.charts.fit.fit_chart`.

    Raises
    ------
    DataError
        No row has a divergence and a loss, or none of them is of POT.
    UsageError
        No such theme.
    """
    rows = drawable_rows(frame)
    if FAMILY not in set(rows["family"]):
        raise DataError(
            f"expected formats of the family {FAMILY} in the view {view}, found none; "
            "collect some, such as --number-formats 'POT_*'"
        )
    names = sorted(set(rows["network"]))
    panels = []
    for place, name in enumerate(names):
        of_network = rows.filter(pl.col("network") == name)
        named = place % columns_of(len(names)) == 0
        panels.append(_panel(of_network, name, view, y_named=named))
    said = "the POT formats of each network (blue) among all its formats (grey)"
    return side_by_side(panels, f"{view}: the column of powers of two", said, theme=theme)


def _panel(rows: pl.DataFrame, name: str, view: str, *, y_named: bool) -> alt.LayerChart:
    x = alt.X(
        "divergence:Q",
        title=axis_title(view).split(", ", 1),
        scale=alt.Scale(nice=False, padding=12),
        axis=alt.Axis(tickCount=5, format="~g", **SMALL_AXIS),
    )
    y = alt.Y(
        "accuracy_loss:Q",
        title="Relative loss of accuracy" if y_named else None,
        scale=alt.Scale(nice=False, padding=12),
        axis=alt.Axis(format="%", tickCount=5, **SMALL_AXIS),
    )
    tooltips = [
        alt.Tooltip("network:N", title="Network"),
        alt.Tooltip("number_format:N", title="Format"),
        alt.Tooltip("divergence:Q", title="Divergence", format=".4g"),
        alt.Tooltip("loss_and_error:N", title="Relative loss"),
    ]
    powers, others = rows.filter(family=FAMILY), rows.filter(pl.col("family") != FAMILY)
    labels = alt.Chart(inline(_labels(powers, rows))).encode(
        x="divergence:Q", y="accuracy_loss:Q", text="label:N"
    )
    place: dict[str, Any] = {"align": "right", "dx": -8, "fontSize": 11}
    return layered(
        alt.Chart(inline(others))
        .mark_point(filled=True, size=24, style="ghost")
        .encode(x=x, y=y, tooltip=tooltips),
        labels.mark_text(style="halo", **place),
        labels.mark_text(style="label", **place),
        alt.Chart(inline(powers))
        .mark_point(filled=True, size=60, shape="triangle-up", style="bar", opacity=0.8)
        .encode(x=x, y=y, tooltip=tooltips),
    ).properties(width=PANEL_WIDTH, height=PANEL_HEIGHT, title=title(name, small=True))


def _labels(powers: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """A label for each run of widths whose points stand near each other."""
    names = sorted(powers["number_format"], key=format_key)
    points = {row["number_format"]: row for row in powers.rows(named=True)}
    spans = {name: _span(rows[name]) for name in ("divergence", "accuracy_loss")}
    runs: list[list[str]] = []
    for name in names:
        near = runs and all(
            abs(points[name][column] - points[runs[-1][0]][column]) < NEAR * span
            for column, span in spans.items()
        )
        if near:
            runs[-1].append(name)
        else:
            runs.append([name])
    return pl.DataFrame(
        {
            "label": [run[0] + f" to {run[-1]}" * (len(run) > 1) for run in runs],
            "divergence": [min(points[name]["divergence"] for name in run) for run in runs],
            "accuracy_loss": [
                sum(points[name]["accuracy_loss"] for name in run) / len(run) for run in runs
            ],
        }
    )


def _span(values: pl.Series) -> float:
    numbers = values.to_numpy()
    return float(numbers.max() - numbers.min())
