"""Chart layers of curves, the prediction band and the isotonic ceiling."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ptqdb.charts.axes import XAxis
from ptqdb.charts.rows import inline
from ptqdb.charts.style import DASHES
from ptqdb.curves import curve as curve_by_name
from ptqdb.curves.points import Floats
from ptqdb.defaults import COVERAGE
from ptqdb.fitting.intervals import LARGEST_LOSS
from ptqdb.fitting.view_fit import CEILING, GroupFit

if TYPE_CHECKING:
    from ptqdb.curves.function import CurveFit
    from ptqdb.curves.points import Points
    from ptqdb.fitting.intervals import LossPredictor

# Share of a curve's height: less than a pixel.
FLATNESS = 1.5e-3
# Number of predicted losses at which a band is computed, and the width over which its ends are
# averaged, on the arcsine scale (0 to pi / 2).
BAND_POINTS, BAND_SMOOTHNESS = 160, 0.06


def curve_layers(
    fits: Sequence[GroupFit],
    axis: XAxis,
    *,
    predictor: "LossPredictor | None" = None,
    ceiling: bool = True,
    whole_x: bool = False,
) -> tuple[list[alt.Chart], list[alt.Chart]]:
    """Return the layers below the points, and those above.

    Parameters
    ----------
    fits
        Fits of the same points; failed ones are left out.
    predictor
        Gives the band; None: no band.
    ceiling
        Whether to draw the isotonic curve, as a faint step.
    whole_x
        Whether to extend curves, dashed, beyond the fitted points to the ends of the axis.
    """
    drawn = [fit for fit in fits if fit.fitted is not None]
    below, above = [], []
    if predictor is not None:
        below.append(_band(predictor, axis))
    if drawn and ceiling and any(fit.curve != CEILING for fit in drawn):
        assert drawn[0].fitted is not None
        below.append(_ceiling(drawn[0].fitted.points, axis))
    names = [fit.curve for fit in drawn]
    for fit in drawn:
        assert fit.fitted is not None
        above += _curve(fit.curve, fit.fitted, axis, names, whole_x=whole_x)
    return below, above


def _curve(
    name: str, fitted: "CurveFit", axis: XAxis, names: Sequence[str], *, whole_x: bool
) -> list[alt.Chart]:
    """The curve over its points' range, and dashed beyond it, constant as in predictions."""
    dash: Any = alt.Undefined
    curve: dict[str, Any] = {}
    if len(names) > 1:
        curve = {"curve": pl.lit(name)}
        dashes = [DASHES[place % len(DASHES)] for place in range(len(names))]
        scale = alt.Scale(domain=list(names), range=dashes)
        # Long enough for the longest dash pattern.
        legend = alt.Legend(symbolType="stroke", symbolSize=500, symbolStrokeWidth=2)
        dash = alt.StrokeDash("curve:N", title="Curve", scale=scale, legend=legend)
    low, high = max(fitted.domain[0], axis.low), fitted.domain[1]
    grid = np.unique(np.clip(axis.grid(), low, high))
    y = fitted.predict(grid, chance_loss(fitted.points))
    kept = needed_points(grid, axis, y)
    line = pl.DataFrame({"x": grid[kept], "fitted": y[kept]}).with_columns(**curve)
    charts = [_line(line, "curve", dash)]
    if whole_x:
        ends = [(axis.low, low, y[0]), (high, axis.high, y[-1])]
        charts += [
            _line(pl.DataFrame({"x": [start, end], "fitted": [value] * 2}), "extrapolation")
            for start, end, value in ends
            if start < end
        ]
    return charts


def _line(rows: pl.DataFrame, style: str, dash: Any = alt.Undefined) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(inline(rows))
        .mark_line(style=style, clip=True)
        .encode(x=alt.X("x:Q"), y=alt.Y("fitted:Q"), strokeDash=dash)
    )
    return chart


def needed_points(x: Floats, axis: XAxis, *lines: Floats) -> NDArray[np.intp]:
    """Return the grid indices needed to draw lines as polylines, on a linear and on the axis scale.

    Between them, straight lines deviate by at most `FLATNESS` of the height of all lines.

    Parameters
    ----------
    x
        Shape (points,), ascending.
    lines
        Shape (points,) each.

    Examples
    --------
    >>> x = np.linspace(0, 1, 101)
    >>> axis = XAxis.of(x, "linear")
    >>> needed_points(x, axis, np.maximum(0, x - 0.5)).tolist()
    [0, 50, 100]
    """
    height = max(float(np.ptp(np.stack(lines))), 1e-12)
    scales = [x] if axis.kind == "linear" else [x, axis.placed(x)]
    kept = {0, len(x) - 1}
    for along in scales:
        for line in lines:
            open_parts = [(0, len(x) - 1)]
            while open_parts:
                first, last = open_parts.pop()
                if last - first < 2:
                    continue
                part = along[first : last + 1]
                straight = np.interp(part, part[[0, -1]], line[[first, last]])
                distance = np.abs(line[first : last + 1] - straight)
                worst = int(np.argmax(distance))
                if distance[worst] > FLATNESS * height:
                    kept.add(first + worst)
                    open_parts += [(first, first + worst), (first + worst, last)]
    return np.array(sorted(kept))


def _band(predictor: "LossPredictor", axis: XAxis) -> alt.Chart:
    grid = axis.grid()
    lower, upper = smooth_band(predictor, grid)
    kept = needed_points(grid, axis, lower, upper)
    band = pl.DataFrame({"x": grid[kept], "lower": lower[kept], "upper": upper[kept]})
    chart: alt.Chart = (
        alt.Chart(inline(band))
        .mark_area(style="band", clip=True)
        .encode(x=alt.X("x:Q"), y=alt.Y("lower:Q"), y2=alt.Y2("upper:Q"))
    )
    return chart


def smooth_band(predictor: "LossPredictor", x: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the intervals at `x`, smoothed to remove corners from single points.

    An interval depends only on the predicted loss, and each reference point that enters its
    neighbourhood shifts it slightly. The band is the mean of the intervals of similar predicted
    losses; it always contains the predicted loss.

    Returns
    -------
    Lower and upper ends, shape (points,).
    """
    chance = chance_loss(predictor.fit.points)
    loss = predictor.fit.predict(x, chance)
    angle = np.arcsin(np.sqrt(np.clip(loss, 0, 1)))
    order = np.argsort(angle, kind="stable")
    centres = np.linspace(angle.min(), angle.max(), BAND_POINTS)
    asked = order[np.searchsorted(angle[order], centres).clip(max=len(x) - 1)]
    found = predictor.predict(x[asked], chance, coverage=COVERAGE)
    step = max(float(np.ptp(angle)) / (BAND_POINTS - 1), 1e-12)
    reach = min(round(3 * BAND_SMOOTHNESS / step), BAND_POINTS - 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / BAND_SMOOTHNESS) ** 2)
    below, above = (
        # Beyond both ends of the losses the interval is constant.
        np.convolve(np.pad(end - found.loss, reach, mode="edge"), weights / weights.sum(), "valid")
        for end in (found.lower, found.upper)
    )
    upper = np.minimum(loss + np.interp(angle, centres, above), LARGEST_LOSS)
    return loss + np.interp(angle, centres, below), np.maximum(loss, upper)


def _ceiling(points: "Points", axis: XAxis) -> alt.Chart:
    x = np.unique(points.x)
    levels = curve_by_name(CEILING).estimate(points.x, points.y).predict(x)
    # Keep only the ends of each step.
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
    """One loss at chance for a whole curve: the mean over the points."""
    return None if points.chance_loss is None else float(points.chance_loss.mean())
