"""Bits against loss: what each bit more buys, as measured and as predicted."""

import altair as alt
import polars as pl

from ptqdb.charts.panels import side_by_side
from ptqdb.charts.rows import inline
from ptqdb.charts.style import (
    PANEL_WIDTH,
    SMALL_AXIS,
    columns_of,
    family_order,
    layered,
    title,
)
from ptqdb.errors import DataError

KINDS = ("measured", "predicted")
# Where people decide: losses up to this; below 0 are those that gain a little.
DECISIVE = 0.05
HEIGHTS = {"whole": 130, "decisive": 170}


def frontier_chart(
    frame: pl.DataFrame, *, subtitle: str = "", theme: str = "light"
) -> alt.ConcatChart:
    """Draw the least loss of each family at each width, two panels per network.

    The upper panel has every loss; the lower one those of up to 5 %, among which people choose.

    Parameters
    ----------
    frame
        Columns ``network, number_format, family, bits, accuracy_loss`` (measured), and, where
        there are predictions, ``predicted_loss``: by a curve that never saw the network.
    subtitle
        What made the predictions.

    Returns
    -------
    Lines of one family each, solid as measured and dashed as predicted; each has chosen its own
    format where a family has several of a width.

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
    lines = [
        _lines(
            rows.filter(pl.col("network") == name),
            families,
            y_named=place % columns_of(len(names)) == 0,
        )
        for place, name in enumerate(names)
    ]
    losses, is_predicted = rows["loss"].to_numpy(), rows["kind"].n_unique() > 1
    whole = alt.Scale(domain=[min(0.0, losses.min()), losses.max()], nice=False, padding=8)
    gain = max(-DECISIVE / 5, min(-DECISIVE / 25, float(losses.min())))
    decisive = alt.Scale(domain=[gain, DECISIVE], nice=False)
    panels = [
        alt.vconcat(
            _panel(one, whole, "whole", is_predicted=is_predicted).properties(
                title=title(name, small=True)
            ),
            _panel(one, decisive, "decisive", is_predicted=is_predicted),
            spacing=8,
        )
        for name, one in zip(names, lines, strict=True)
    ]
    said = "the format that loses least of each family and width, as measured (solid)"
    if is_predicted:
        said += " and as predicted from the other networks (dashed)"
    zoomed = f"below each: losses up to {DECISIVE:.0%} alone"
    heading = "Bits against loss"
    return side_by_side(panels, heading, said, zoomed, subtitle, y="independent", theme=theme)


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


def _lines(rows: pl.DataFrame, families: list[str], *, y_named: bool) -> alt.Chart:
    """What both panels of a network show."""
    bits = sorted(set(rows["bits"]))
    chart: alt.Chart = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "bits:Q",
            title="Bits of a code",
            scale=alt.Scale(domain=[bits[0], bits[-1]], nice=False, padding=8),
            axis=alt.Axis(values=bits, format="d", labelOverlap="greedy", **SMALL_AXIS),
        ),
        y=alt.Y(
            "loss:Q",
            title="Relative loss" if y_named else None,
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
    return chart


def _panel(lines: alt.Chart, scale: alt.Scale, part: str, *, is_predicted: bool) -> alt.LayerChart:
    placed = lines.copy()
    placed.encoding.y = placed.encoding.y.copy()
    placed.encoding.y.scale = scale
    if part == "whole":
        placed.encoding.x = placed.encoding.x.copy()
        placed.encoding.x.title = None
    line = placed.mark_line(strokeWidth=1.8, clip=True)
    if is_predicted:
        line = line.encode(
            strokeDash=alt.StrokeDash(
                "kind:N",
                title="Loss",
                scale=alt.Scale(domain=KINDS, range=[[1, 0], [4, 3]]),
                legend=alt.Legend(symbolType="stroke", symbolStrokeColor="grey", symbolSize=500),
            )
        )
    return layered(
        line,
        placed.mark_point(filled=True, size=22, clip=True),
    ).properties(width=PANEL_WIDTH, height=HEIGHTS[part])
