"""Which view and curve predict networks that they did not see, as a table of colours."""

import altair as alt
import polars as pl

from ptqdb.charts.points import inline
from ptqdb.charts.style import SEQUENTIAL, layered, themed, title
from ptqdb.errors import DataError

SHOWN = 24
ROW, COLUMN = 20, 78
# Views at or below this held-out R² are all as bad: a few far below would take all colours.
LOWEST = 0.5


def leaderboard_chart(
    entries: pl.DataFrame, *, shown: int = SHOWN, note: str = "", theme: str = "light"
) -> alt.LayerChart:
    """Draw views x curves, the best view first, baselines marked.

    Parameters
    ----------
    entries
        Columns ``view, curve, held_out_r_squared, r_squared, held_out_rmse, baseline, evaluated``
        (whether its divergence looks at losses of the network itself).
    shown
        So many of the best views, and all baselines.
    note
        Where the figures are from.

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
            "expected views with a held-out R², found none; collect two networks or more"
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
    marks = "* a baseline that any divergence has to beat"
    if rows["evaluated"].any():
        marks += "; † looks at losses of the network left out"
    return themed(
        _cells(rows, labels, curves).properties(
            width=COLUMN * len(curves),
            height=ROW * len(labels),
            title=title(
                "Held-out R²: each network predicted by a curve that never saw it",
                marks,
                note + (f"; {more} more views below" if more else ""),
            ),
        ),
        theme,
    )


def _cells(rows: pl.DataFrame, labels: list[str], curves: list[str]) -> alt.LayerChart:
    base = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "curve:N",
            sort=curves,
            title=None,
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y(
            "label:N",
            sort=labels,
            title=None,
            axis=alt.Axis(
                ticks=False,
                domain=False,
                labelLimit=420,
                labelFontWeight=alt.condition(
                    "indexof(datum.value, '*') >= 0", alt.value("bold"), alt.value("normal")
                ),
            ),
        ),
        tooltip=[
            alt.Tooltip("view:N", title="View"),
            alt.Tooltip("curve:N", title="Curve"),
            alt.Tooltip("held_out_r_squared:Q", title="Held-out R²", format=".4f"),
            alt.Tooltip("held_out_rmse:Q", title="Held-out RMSE", format=".2%"),
            alt.Tooltip("r_squared:Q", title="R²", format=".4f"),
        ],
    )
    scale = alt.Scale(domain=[LOWEST, 1], range=list(SEQUENTIAL), interpolate="lab", clamp=True)
    rect = base.mark_rect().encode(
        color=alt.Color("held_out_r_squared:Q", title="Held-out R²", scale=scale)
    )
    text = base.mark_text(fontSize=11).encode(
        text=alt.Text("held_out_r_squared:Q", format=".3f"),
        color=alt.condition(
            f"datum.held_out_r_squared > {(1 + LOWEST) / 2 + 0.05}",
            alt.value("white"),
            alt.value("black"),
        ),
    )
    return layered(rect, text)
