"""What the pooled curve misses: measured loss less the curve's, by network and by format."""

import altair as alt
import polars as pl

from ptqdb.charts.points import drawable_rows, inline
from ptqdb.charts.style import CELL, DIVERGING, format_key, themed, title
from ptqdb.errors import DataError
from ptqdb.fitting import GroupFit

BAR = 70


def residuals_chart(
    frame: pl.DataFrame, fit: GroupFit, *, view: str, theme: str = "light"
) -> alt.VConcatChart:
    """Draw each point's residual as a cell, with the means of the formats and the networks.

    Parameters
    ----------
    frame, view, theme
        As in `ptqdb.charts.fit.fit_chart`.
    fit
        Of the pool of all rows.

    Raises
    ------
    DataError
        Nothing was fitted, or no row has a divergence and a loss.
    UsageError
        No such theme.
    """
    if fit.fitted is None:
        raise DataError(f"expected a curve over {view} to compare with, found none: {fit.error}")
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
    scale = alt.Scale(domain=[-largest, largest], range=list(DIVERGING), interpolate="lab")
    cells = (
        alt.Chart(inline(rows))
        .mark_rect()
        .encode(
            x=x.axis(labelAngle=-90, labelFontSize=10, ticks=False, domain=False),
            y=y.axis(ticks=False, domain=False),
            color=alt.Color(
                "residual:Q",
                title=["Loss measured", "less fitted"],
                scale=scale,
                legend=alt.Legend(format="+%"),
            ),
            tooltip=[
                alt.Tooltip("network:N", title="Network"),
                alt.Tooltip("number_format:N", title="Format"),
                alt.Tooltip("loss_and_error:N", title="Loss measured"),
                alt.Tooltip("predicted:Q", title="Loss by the curve", format=".2%"),
                alt.Tooltip("residual:Q", title="Difference", format="+.2%"),
                alt.Tooltip("divergence:Q", title="Divergence", format=".4g"),
            ],
        )
        .properties(width=width, height=height)
    )
    above = _means(rows, "number_format").encode(
        x=x.axis(labels=False, ticks=False, domain=False),
        y=alt.Y("mean:Q", title=["Mean", "over networks"], axis=_percent()),
    )
    right = _means(rows, "network").encode(
        y=y.axis(labels=False, ticks=False, domain=False),
        x=alt.X("mean:Q", title=["Mean over", "formats"], axis=_percent()),
    )
    chart = alt.vconcat(
        above.properties(width=width, height=BAR),
        alt.hconcat(cells, right.properties(width=BAR, height=height), spacing=10),
        spacing=6,
    ).properties(
        title=title(
            f"{view}: what {fit.curve} over all networks misses",
            "accuracy loss as measured, less the curve's; "
            f"R² {fit.r_squared:.4f}, RMSE {fit.rmse:.2%} of the float accuracy",
        )
    )
    return themed(chart, theme)


def _means(rows: pl.DataFrame, column: str) -> alt.Chart:
    means = rows.group_by(column).agg(mean=pl.col("residual").mean(), points=pl.len())
    chart: alt.Chart = (
        alt.Chart(inline(means.sort(column)))
        .mark_bar(style="bar")
        .encode(
            tooltip=[
                alt.Tooltip(f"{column}:N"),
                alt.Tooltip("mean:Q", title="Mean difference", format="+.2%"),
                alt.Tooltip("points:Q", title="Points"),
            ]
        )
    )
    return chart


def _percent() -> alt.Axis:
    return alt.Axis(format="+%", tickCount=3, labelFontSize=10, titleFontSize=10)
