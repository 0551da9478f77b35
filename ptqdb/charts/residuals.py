"""Residuals of the pooled curve: measured minus fitted loss, by network and by format."""

import altair as alt
import numpy as np
import polars as pl

from ptqdb.charts.points import drawable_rows
from ptqdb.charts.rows import inline
from ptqdb.charts.style import CELL, apply_theme, format_key, layer_charts, title
from ptqdb.errors import DataError
from ptqdb.fitting.view_fit import GroupFit

BAR = 90
# Signed percentages, but 0 without a sign.
SIGNED = "datum.value == 0 ? '0%' : format(datum.value, '+~%')"


def residuals_chart(
    frame: pl.DataFrame, fit: GroupFit, *, view: str, theme: str = "light"
) -> alt.VConcatChart:
    """Draw each point's residual as a cell, with the means per format and per network.

    Parameters
    ----------
    frame, view, theme
        As in `ptqdb.charts.fit.fit_chart`.
    fit
        The fit to all rows.

    Raises
    ------
    DataError
        The fit failed, or no row has a divergence and a loss.
    UsageError
        No such theme.
    """
    if fit.fitted is None:
        raise DataError(f"expected a curve fitted to {view}, found none: {fit.error}")
    rows = drawable_rows(frame)
    predicted = fit.fitted.predict(rows["divergence"].to_numpy(), fit.fitted.points.chance_loss)
    rows = rows.with_columns(predicted=pl.Series(predicted)).with_columns(
        residual=pl.col("accuracy_loss") - pl.col("predicted")
    )
    formats = sorted(set(rows["number_format"]), key=format_key)
    networks = sorted(set(rows["network"]))
    x = alt.X("number_format:N", sort=formats, title=None)
    y = alt.Y("network:N", sort=networks, title=None)
    width, height = CELL * len(formats), CELL * 1.6 * len(networks)
    largest = max(float(rows["residual"].abs().to_numpy().max()), 1e-9)
    scale = alt.Scale(domain=[-largest, largest], domainMid=0, interpolate="lab")
    cells = (
        alt.Chart(inline(rows))
        .mark_rect()
        .encode(
            x=x.axis(labelAngle=-90, labelFontSize=10, ticks=False, domain=False),
            y=y.axis(ticks=False, domain=False),
            color=alt.Color(
                "residual:Q",
                title=["Measured minus", "fitted loss"],
                scale=scale,
                legend=alt.Legend(labelExpr="format(datum.value, '+.1%')"),
            ),
            tooltip=[
                alt.Tooltip("network:N", title="Network"),
                alt.Tooltip("number_format:N", title="Format"),
                alt.Tooltip("loss_and_error:N", title="Measured loss"),
                alt.Tooltip("predicted:Q", title="Fitted loss", format=".2%"),
                alt.Tooltip("residual:Q", title="Residual", format="+.2%"),
                alt.Tooltip("divergence:Q", title="Divergence", format=".4g"),
            ],
        )
        .properties(width=width, height=height)
    )
    above = _means(
        rows, "number_format", x.axis(labels=False, ticks=False, domain=False), "y", "networks"
    )
    right = _means(rows, "network", y.axis(labels=False, ticks=False, domain=False), "x", "formats")
    chart = alt.vconcat(
        above.properties(width=width, height=BAR),
        alt.hconcat(cells, right.properties(width=BAR, height=height), spacing=10),
        spacing=6,
    ).properties(
        title=title(
            f"{view}: residuals of {fit.curve} fitted to all networks",
            "measured minus fitted accuracy loss; "
            f"R² {fit.r_squared:.4f}, RMSE {fit.rmse:.2%} of the float accuracy",
        )
    )
    return apply_theme(chart, theme)


def _means(
    rows: pl.DataFrame, column: str, along: alt.X | alt.Y, channel: str, over: str
) -> alt.LayerChart:
    """Bars of mean residuals from a line at 0, which the axis labels."""
    means = rows.group_by(column).agg(mean=pl.col("residual").mean(), points=pl.len())
    ends = [min(0.0, *means["mean"].to_list()), max(0.0, *means["mean"].to_list())]
    kind = {"x": alt.X, "y": alt.Y}[channel]
    mean = kind(
        "mean:Q",
        title=["Mean", f"over {over}"],
        scale=alt.Scale(domain=ends, nice=False, padding=4),
        axis=alt.Axis(
            values=_round_ticks(*ends),
            labelExpr=SIGNED,
            labelFontSize=10,
            titleFontSize=10,
            domain=False,
        ),
    )
    bars = (
        alt.Chart(inline(means.sort(column)))
        .mark_bar(style="bar")
        .encode(
            along,
            mean,
            tooltip=[
                alt.Tooltip(f"{column}:N", title=column.replace("number_", "").capitalize()),
                alt.Tooltip("mean:Q", title="Mean residual", format="+.2%"),
                alt.Tooltip("points:Q", title="Points"),
            ],
        )
    )
    zero = alt.Chart(inline(pl.DataFrame({"mean": [0.0]}))).mark_rule(style="rule").encode(mean)
    return layer_charts(bars, zero)


def _round_ticks(low: float, high: float) -> list[float]:
    """Return 0, and a round number below and above it if there is room.

    Examples
    --------
    >>> _round_ticks(-0.021, 0.057)
    [-0.02, 0.0, 0.05]
    """
    ticks = [0.0]
    for end in (low, high):
        size = abs(end)
        if size < 0.25 * (high - low) or size == 0:
            continue
        power = 10.0 ** np.floor(np.log10(size))
        round_size = max(step for step in (1, 2, 3, 4, 5, 6, 8) if step * power <= size) * power
        ticks.append(float(f"{np.copysign(round_size, end):.3g}"))
    return sorted(ticks)
