"""Crowding: POT formats of all widths have nearly the same divergence."""

import altair as alt
import polars as pl

from ptqdb.charts.axes import axis_title, title_lines
from ptqdb.charts.panels import side_by_side
from ptqdb.charts.points import drawable_rows
from ptqdb.charts.rows import inline
from ptqdb.charts.style import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    SMALL_AXIS,
    format_key,
    layer_charts,
    panel_columns,
    title,
)
from ptqdb.errors import DataError

FAMILY = "POT"
# Points closer than this share of each axis get one label together.
NEAR = 0.07
# Size of a label: share of the x axis beside its point, and of the y axis above and below.
LABEL, BESIDE = 0.26, 0.04


def crowding_chart(frame: pl.DataFrame, *, view: str, theme: str = "light") -> alt.ConcatChart:
    """Draw the labelled POT formats of each network over its other formats in grey.

    Parameters
    ----------
    frame, view, theme
        As in `ptqdb.charts.fit.fit_chart`.

    Raises
    ------
    DataError
        No row has a divergence and a loss, or none of them is a POT format.
    UsageError
        No such theme.
    """
    rows = drawable_rows(frame)
    if FAMILY not in set(rows["family"]):
        raise DataError(
            f"expected formats of the family {FAMILY} in the view {view}, found none; "
            "collect some with --number-formats 'POT_*'"
        )
    names = sorted(set(rows["network"]))
    panels = []
    for place, name in enumerate(names):
        of_network = rows.filter(pl.col("network") == name)
        named = place % panel_columns(len(names)) == 0
        panels.append(_panel(of_network, name, view, y_named=named))
    said = "POT formats of each network (blue) among its other formats (grey)"
    return side_by_side(panels, f"{view}: crowding of POT formats", said, theme=theme)


def _panel(rows: pl.DataFrame, name: str, view: str, *, y_named: bool) -> alt.LayerChart:
    x = alt.X(
        "divergence:Q",
        title=title_lines(axis_title(view)),
        scale=alt.Scale(nice=False, padding=12),
        axis=alt.Axis(tickCount=5, format="~g", **SMALL_AXIS),
    )
    y = alt.Y(
        "accuracy_loss:Q",
        title="Relative accuracy loss" if y_named else None,
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
    labels = _labels(powers, rows)
    texts = [
        alt.Chart(inline(labels.filter(pl.col("is_left") == is_left)))
        .mark_text(
            style=style,
            align="right" if is_left else "left",
            dx=-8 if is_left else 8,
            fontSize=11,
        )
        .encode(x=alt.X("divergence:Q"), y=alt.Y("accuracy_loss:Q"), text=alt.Text("label:N"))
        for style in ("halo", "label")
        for is_left in labels["is_left"].unique(maintain_order=True)
    ]
    return layer_charts(
        alt.Chart(inline(others))
        .mark_point(filled=True, size=24, style="ghost")
        .encode(x=x, y=y, tooltip=tooltips),
        *texts,
        alt.Chart(inline(powers))
        .mark_point(filled=True, size=60, shape="triangle-up", style="bar", opacity=0.8)
        .encode(x=x, y=y, tooltip=tooltips),
    ).properties(width=PANEL_WIDTH, height=PANEL_HEIGHT, title=title(name, small=True))


def _labels(powers: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return one label for each run of widths whose points are close together."""
    points = {row["number_format"]: row for row in powers.rows(named=True)}
    spans = {name: _span(rows[name]) for name in ("divergence", "accuracy_loss")}
    runs: list[list[str]] = []
    for name in sorted(points, key=format_key):
        near = runs and all(
            abs(points[name][column] - points[runs[-1][0]][column]) < NEAR * span
            for column, span in spans.items()
        )
        if near:
            runs[-1].append(name)
        else:
            runs.append([name])
    labels = []
    for run in runs:
        x = [points[name]["divergence"] for name in run]
        y = sum(points[name]["accuracy_loss"] for name in run) / len(run)
        beside = rows.filter(
            ~pl.col("number_format").is_in(run)
            & ((pl.col("accuracy_loss") - y).abs() < BESIDE * spans["accuracy_loss"])
        )["divergence"]
        width = LABEL * spans["divergence"]
        left = int(beside.is_between(min(x) - width, min(x)).sum())
        right = int(beside.is_between(max(x), max(x) + width).sum())
        is_left = left <= right or max(x) + width > float(rows["divergence"].to_numpy().max())
        labels.append(
            {
                "label": run[0] + f" to {run[-1].removeprefix(FAMILY + '_')}" * (len(run) > 1),
                "divergence": min(x) if is_left else max(x),
                "accuracy_loss": y,
                "is_left": is_left,
            }
        )
    return pl.DataFrame(labels)


def _span(values: pl.Series) -> float:
    numbers = values.to_numpy()
    return float(numbers.max() - numbers.min())
