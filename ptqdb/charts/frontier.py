"""The frontier of bit width and loss, measured and predicted."""

import altair as alt
import polars as pl

from ptqdb.charts.panels import side_by_side
from ptqdb.charts.rows import inline
from ptqdb.charts.style import (
    PANEL_WIDTH,
    SMALL_AXIS,
    family_order,
    layer_charts,
    panel_columns,
    title,
)
from ptqdb.errors import DataError

KINDS = ("measured", "predicted")
# Losses up to this are relevant for a choice; some formats gain a little, below 0.
DECISIVE = 0.05
HEIGHTS = {"whole": 130, "decisive": 170}


def frontier_chart(
    frame: pl.DataFrame, *, subtitle: str = "", theme: str = "light"
) -> alt.ConcatChart:
    """Draw the lowest loss of each family at each bit width, two panels per network.

    The upper panel shows all losses, the lower one those up to 5 %, the range of practical choices.

    Parameters
    ----------
    frame
        Columns ``network, number_format, family, bits, accuracy_loss`` (measured) and optionally
        ``predicted_loss``, by a curve fitted without the network.
    subtitle
        A note on the predictions.

    Returns
    -------
    One line per family, solid for measured and dashed for predicted losses. If a family has
    several formats of a width, each line uses its own best one.

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
            y_named=place % panel_columns(len(names)) == 0,
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
    said = "best format of each family and bit width: measured (solid)"
    if is_predicted:
        said += " and predicted from the other networks (dashed)"
    zoomed = f"lower panels: losses up to {DECISIVE:.0%}"
    heading = "Accuracy loss by bit width"
    return side_by_side(panels, heading, said, zoomed, subtitle, y="independent", theme=theme)


def _best(frame: pl.DataFrame) -> pl.DataFrame:
    """The lowest loss of each network, family and width, measured and predicted."""
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
    """The lines in both panels of a network."""
    bits = sorted(set(rows["bits"]))
    chart: alt.Chart = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "bits:Q",
            title="Bit width",
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
            alt.Tooltip("kind:N", title="Kind"),
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
    return layer_charts(
        line,
        placed.mark_point(filled=True, size=22, clip=True),
    ).properties(width=PANEL_WIDTH, height=HEIGHTS[part])
