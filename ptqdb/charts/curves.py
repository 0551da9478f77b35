"""Curves over the points of a view, the band of new networks' losses, and the ceiling."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from ptqdb.charts.axes import CURVE_POINTS, XAxis
from ptqdb.charts.points import inline
from ptqdb.charts.style import DASHES
from ptqdb.curves import curve as curve_by_name
from ptqdb.defaults import COVERAGE
from ptqdb.fitting import CEILING, GroupFit

if TYPE_CHECKING:
    from ptqdb.curves.function import CurveFit
    from ptqdb.curves.points import Points
    from ptqdb.intervals import LossPredictor


def curve_layers(
    fits: Sequence[GroupFit],
    axis: XAxis,
    *,
    predictor: "LossPredictor | None" = None,
    ceiling: bool = True,
    count: int = CURVE_POINTS,
) -> tuple[list[alt.Chart], list[alt.Chart]]:
    """The layers that lie under the points, and those over them.

    Parameters
    ----------
    fits
        Fits of the same points; those that failed are left out.
    predictor
        Gives the band; without it there is none.
    ceiling
        Whether the isotonic curve is drawn, as a faint step.
    count
        Points of each curve (on a logarithmic axis up to twice as many).
    """
    drawn = [fit for fit in fits if fit.fitted is not None]
    below, above = [], []
    if predictor is not None:
        below.append(_band(predictor, axis, count))
    if drawn and ceiling and any(fit.curve != CEILING for fit in drawn):
        assert drawn[0].fitted is not None
        below.append(_ceiling(drawn[0].fitted.points, axis))
    names = [fit.curve for fit in drawn]
    for fit in drawn:
        assert fit.fitted is not None
        above.append(_curve(fit.curve, fit.fitted, axis, names, count))
    return below, above


def _curve(
    name: str, fitted: "CurveFit", axis: XAxis, names: Sequence[str], count: int
) -> alt.Chart:
    grid = axis.grid(count)
    low, high = fitted.domain
    grid = np.unique(np.clip(grid, max(low, axis.low), high))
    line = pl.DataFrame({"x": grid, "fitted": fitted.predict(grid, chance_loss(fitted.points))})
    dash: Any = alt.Undefined
    if len(names) > 1:
        line = line.with_columns(curve=pl.lit(name))
        dashes = [DASHES[place % len(DASHES)] for place in range(len(names))]
        scale = alt.Scale(domain=list(names), range=dashes)
        # Long enough to show the longest dash.
        legend = alt.Legend(symbolType="stroke", symbolSize=500, symbolStrokeWidth=2)
        dash = alt.StrokeDash("curve:N", title="Curve", scale=scale, legend=legend)
    chart: alt.Chart = (
        alt.Chart(inline(line))
        .mark_line(style="curve", clip=True)
        .encode(x=alt.X("x:Q"), y=alt.Y("fitted:Q"), strokeDash=dash)
    )
    return chart


def _band(predictor: "LossPredictor", axis: XAxis, count: int) -> alt.Chart:
    grid = axis.grid(count)
    found = predictor.predict(grid, chance_loss(predictor.fit.points), coverage=COVERAGE)
    band = pl.DataFrame({"x": grid, "lower": found.lower, "upper": found.upper})
    chart: alt.Chart = (
        alt.Chart(inline(band))
        .mark_area(style="band", clip=True)
        .encode(x=alt.X("x:Q"), y=alt.Y("lower:Q"), y2=alt.Y2("upper:Q"))
    )
    return chart


def _ceiling(points: "Points", axis: XAxis) -> alt.Chart:
    x = np.unique(points.x)
    levels = curve_by_name(CEILING).estimate(points.x, points.y).predict(x)
    # The ends of each step suffice.
    kept = np.ones(len(x), bool)
    kept[1:-1] = levels[1:-1] != levels[:-2]
    steps = pl.DataFrame({"x": np.clip(x[kept], axis.low, None), "ceiling": levels[kept]})
    chart: alt.Chart = (
        alt.Chart(inline(steps))
        .mark_line(style="ceiling", interpolate="step-after", clip=True)
        .encode(x=alt.X("x:Q"), y=alt.Y("ceiling:Q"))
    )
    return chart


def chance_loss(points: "Points") -> float | None:
    """One loss at chance for a whole curve: the mean of the points'."""
    return None if points.chance_loss is None else float(points.chance_loss.mean())
