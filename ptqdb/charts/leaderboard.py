"""The leaderboard: held-out R² of views and curves, one row per view."""

import altair as alt
import polars as pl

from ptqdb.charts.rows import inline
from ptqdb.charts.style import apply_theme, layer_charts, title
from ptqdb.errors import DataError

SHOWN = 24
ROW, WIDTH = 20, 460
# Room to the right of the best point for its label, a share of the axis.
ROOM = 0.08
SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down")
# The axis ends here, where the mean of the points predicts as well: a few values far below would
# take up all the space.
LOWEST = 0.0


def leaderboard_chart(
    entries: pl.DataFrame, *, shown: int = SHOWN, note: str = "", theme: str = "light"
) -> alt.LayerChart:
    """Draw the held-out R² of each view's curves, the best view first, baselines marked.

    The axis spans the values; those below 0 are drawn at its left end as triangles.

    Parameters
    ----------
    entries
        Columns ``view, curve, held_out_r_squared, r_squared, held_out_rmse, baseline, evaluated``
        (whether the divergence depends on losses of the predicted network).
    shown
        Number of best views to show, in addition to all baselines.
    note
        A note on the origin of the figures.

    Raises
    ------
    DataError
        No entry has a held-out R².
    UsageError
        No such theme.
    """
    known = entries.filter(pl.col("held_out_r_squared").is_finite())
    if known.is_empty():
        raise DataError(
            "expected views with a held-out R², found none; collect two or more networks"
        )
    best = known.group_by("view", "baseline").agg(best=pl.col("held_out_r_squared").max())
    order = best.sort("best", "view", descending=[True, False])
    chosen = set(order.filter(~pl.col("baseline")).head(shown)["view"])
    chosen |= set(order.filter(pl.col("baseline"))["view"])
    rows = known.filter(pl.col("view").is_in(chosen)).with_columns(
        label=pl.col("view")
        + pl.when("baseline").then(pl.lit(" *")).otherwise(pl.lit(""))
        + pl.when("evaluated").then(pl.lit(" †")).otherwise(pl.lit(""))
    )
    by_view = dict(rows.select("view", "label").iter_rows())
    labels = [by_view[view] for view in order["view"] if view in by_view]
    curves = list(dict.fromkeys(rows["curve"]))
    more = best.height - len(labels)
    marks = "* baseline that a useful divergence must beat"
    if rows["evaluated"].any():
        marks += "; † depends on losses of the left-out network"
    outside, below = int((rows["held_out_r_squared"] < LOWEST).sum()), ""
    if outside:
        count = "1 curve" if outside == 1 else f"{outside} curves"
        below = (
            f"triangle at the left end: {count} below {LOWEST:g}, worse than predicting the mean"
        )
    return apply_theme(
        _rows(rows, labels, curves).properties(
            width=WIDTH,
            height=ROW * len(labels),
            title=title(
                "Held-out R²: each network predicted by a curve fitted without it",
                marks,
                below,
                note + (f"; {more} more views below" if more else ""),
            ),
        ),
        theme,
    )


def _rows(rows: pl.DataFrame, labels: list[str], curves: list[str]) -> alt.LayerChart:
    values = rows["held_out_r_squared"].to_numpy()
    drawn = values[values >= LOWEST] if values.max() >= LOWEST else values
    low, high = float(drawn.min()), float(drawn.max())
    rows = rows.with_columns(x=pl.col("held_out_r_squared").clip(lower_bound=low))
    y = alt.Y(
        "label:N",
        sort=labels,
        title=None,
        axis=alt.Axis(
            grid=True,
            ticks=False,
            domain=False,
            labelLimit=420,
            labelFontWeight=alt.condition(
                "indexof(datum.value, '*') >= 0", alt.value("bold"), alt.value("normal")
            ),
        ),
    )
    x = alt.X(
        "x:Q",
        title="Held-out R²",
        scale=alt.Scale(domain=[low, high + ROOM * (high - low)], nice=False, padding=12),
        axis=alt.Axis(orient="top", format="~g", tickCount=6),
    )
    spans = rows.group_by("label").agg(x=pl.col("x").min(), best=pl.col("x").max())
    best = rows.sort("x", descending=True).unique("label", keep="first", maintain_order=True)
    span = alt.Chart(inline(spans.sort("label"))).mark_rule(style="rule")
    points = alt.Chart(inline(rows)).mark_point(filled=True, size=60, opacity=0.85)
    number = alt.Chart(inline(best)).mark_text(style="label", align="left", dx=9, fontSize=11)
    is_below = f"datum.held_out_r_squared < {LOWEST}"
    return layer_charts(
        span.encode(x=x, x2=alt.X2("best:Q"), y=y),
        points.transform_filter(f"!({is_below})").encode(
            x=x,
            y=y,
            color=alt.Color("curve:N", title="Curve", scale=alt.Scale(domain=curves)),
            shape=alt.Shape(
                "curve:N",
                scale=alt.Scale(
                    domain=curves,
                    range=[SHAPES[place % len(SHAPES)] for place in range(len(curves))],
                ),
            ),
            tooltip=_TOOLTIPS,
        ),
        alt.Chart(inline(rows))
        .transform_filter(is_below)
        .mark_point(shape="triangle-left", size=60, dx=-6)
        .encode(
            x=x,
            y=y,
            color=alt.Color("curve:N", scale=alt.Scale(domain=curves)),
            tooltip=_TOOLTIPS,
        ),
        number.encode(x=x, y=y, text=alt.Text("held_out_r_squared:Q", format=".3f")),
    )


_TOOLTIPS = [
    alt.Tooltip("view:N", title="View"),
    alt.Tooltip("curve:N", title="Curve"),
    alt.Tooltip("held_out_r_squared:Q", title="Held-out R²", format=".4f"),
    alt.Tooltip("held_out_rmse:Q", title="Held-out RMSE", format=".2%"),
    alt.Tooltip("r_squared:Q", title="R²", format=".4f"),
]
