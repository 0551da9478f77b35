"""Bits against loss: what each bit more buys, as measured and as predicted."""

import altair as alt
import polars as pl

from ptqdb.charts.panels import side_by_side
from ptqdb.charts.points import inline
from ptqdb.charts.style import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    SMALL_AXIS,
    columns_of,
    family_order,
    layered,
    title,
)
from ptqdb.errors import DataError

KINDS = ("measured", "predicted")


def frontier_chart(
    frame: pl.DataFrame, *, subtitle: str = "", theme: str = "light"
) -> alt.ConcatChart:
    """Draw the least loss of each family at each width, a panel per network.

    Parameters
    ----------
    frame
        Columns ``network, number_format, family, bits, accuracy_loss`` (measured), and, where
        there are predictions, ``predicted_loss``: by a curve that never saw the network.
    subtitle
        What made the predictions.

    Returns
    -------
    Panels of one line per family, solid as measured and dashed as predicted; each has chosen
    its own format where a family has several of a width.

    Raises
    ------
    DataError
        No row has a loss.
    """
    rows = _best(frame)
    if rows.is_empty():
        raise DataError(
            "expected rows with a loss, found none; collect a network first or choose another view"
        )
    names = sorted(set(rows["network"]))
    families = family_order(rows["family"])
    panels = [
        _panel(
            rows.filter(pl.col("network") == name),
            name,
            families,
            y_named=place % columns_of(len(names)) == 0,
        )
        for place, name in enumerate(names)
    ]
    said = "the format that loses least of each family and width, as measured (solid)"
    if rows["kind"].n_unique() > 1:
        said += " and as predicted from the other networks (dashed)"
    return side_by_side(panels, "Bits against loss", said, subtitle, theme=theme)


def _best(frame: pl.DataFrame) -> pl.DataFrame:
    """The least loss of each network, family and width, measured and predicted."""
    columns = {"measured": "accuracy_loss", "predicted": "predicted_loss"}
    parts = [
        frame.select(
            "network",
            "number_format",
            "family",
            pl.col("bits").cast(pl.Int64),
            pl.col(column).cast(pl.Float64).alias("loss"),
            pl.lit(kind).alias("kind"),
        )
        for kind, column in columns.items()
        if column in frame.columns
    ]
    rows = pl.concat(parts).filter(pl.col("loss").is_finite())
    key = ["network", "family", "bits", "kind"]
    return rows.sort("loss", "number_format").unique(key, keep="first").sort(key)


def _panel(rows: pl.DataFrame, name: str, families: list[str], *, y_named: bool) -> alt.LayerChart:
    kinds = [kind for kind in KINDS if kind in set(rows["kind"])]
    bits = sorted(set(rows["bits"]))
    dash = alt.StrokeDash(
        "kind:N",
        title="Loss",
        scale=alt.Scale(domain=KINDS, range=[[1, 0], [4, 3]]),
        legend=alt.Legend(symbolType="stroke", symbolStrokeColor="grey", symbolSize=500),
    )
    base = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "bits:Q",
            title="Bits of a code",
            scale=alt.Scale(domain=[bits[0], bits[-1]], nice=False, padding=8),
            axis=alt.Axis(values=bits, format="d", labelOverlap="greedy", **SMALL_AXIS),
        ),
        y=alt.Y(
            "loss:Q",
            title="Relative loss of accuracy" if y_named else None,
            scale=alt.Scale(nice=False, padding=8),
            axis=alt.Axis(format="%", tickCount=5, **SMALL_AXIS),
        ),
        color=alt.Color("family:N", title="Family", scale=alt.Scale(domain=families)),
        tooltip=[
            alt.Tooltip("network:N", title="Network"),
            alt.Tooltip("number_format:N", title="Format"),
            alt.Tooltip("bits:Q", title="Bits"),
            alt.Tooltip("loss:Q", title="Relative loss", format=".2%"),
            alt.Tooltip("kind:N", title="Loss as"),
        ],
    )
    lines = base.mark_line(strokeWidth=1.8)
    if len(kinds) > 1:
        lines = lines.encode(strokeDash=dash)
    return layered(lines, base.mark_point(filled=True, size=22)).properties(
        width=PANEL_WIDTH, height=PANEL_HEIGHT, title=title(name, small=True)
    )
