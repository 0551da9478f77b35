"""The frontier of bit width and loss, measured and predicted."""

import math
from dataclasses import dataclass
from functools import partial

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
from ptqdb.defaults import STUDY_SCHEME
from ptqdb.errors import DataError

KINDS = ("measured", "predicted")
# Losses up to this are relevant for a choice; some formats gain a little, below 0.
DECISIVE = 0.05
HEIGHTS = {"whole": 130, "decisive": 170}


def frontier_chart(
    frame: pl.DataFrame, *, subtitle: str = "", theme: str = "light"
) -> alt.ConcatChart:
    """Draw the lowest loss of each family at each bit width, two panels per network.

    Formats of other schemes than the study's are points at their bits per weight, with names where
    no format of fewer bits loses less. The upper panel shows all losses, the lower one those up to
    5 %, the range of practical choices.

    Parameters
    ----------
    frame
        Columns ``network, number_format, family, bits, accuracy_loss`` (measured) and optionally
        ``predicted_loss``, by a curve fitted without the network; ``scheme`` and
        ``bits_per_weight``, if other schemes than the study's are among them.
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
        _layers(
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
    if rows["is_of_study"].not_().any():
        zoomed += "; squares: formats of other schemes, measured"
    heading = "Accuracy loss by bits per weight"
    return side_by_side(panels, heading, said, zoomed, subtitle, y="independent", theme=theme)


def _best(frame: pl.DataFrame) -> pl.DataFrame:
    """The lowest loss of each network, family and width, measured and predicted."""
    columns = {"measured": "accuracy_loss", "predicted": "predicted_loss"}
    is_of_study, width = pl.lit(True), pl.col("bits").cast(pl.Float64)
    if {"scheme", "bits_per_weight"} <= set(frame.columns):
        is_of_study = pl.col("scheme") == STUDY_SCHEME
        width = pl.when(is_of_study).then(width).otherwise(pl.col("bits_per_weight"))
    parts = [
        frame.select(
            "network",
            "number_format",
            "family",
            is_of_study.alias("is_of_study"),
            width.round(3).alias("bits"),
            pl.col(column).cast(pl.Float64).alias("loss"),
            pl.lit(kind).alias("kind"),
        )
        for kind, column in columns.items()
        if column in frame.columns
    ]
    rows = pl.concat(parts).filter(pl.col("loss").is_finite(), pl.col("bits").is_not_null())
    key = ["network", "family", "bits", "kind"]
    of_study = rows.filter("is_of_study").sort("loss", "number_format").unique(key, keep="first")
    others = rows.filter(~pl.col("is_of_study"), pl.col("kind") == KINDS[0])
    both = pl.concat([of_study, others])
    return both.sort(*key, "number_format")


def _labelled(rows: pl.DataFrame) -> pl.DataFrame:
    """The measured formats of other schemes that no format of as few bits beats."""
    measured = rows.filter(pl.col("kind") == KINDS[0]).sort("bits", "loss")
    best = measured["loss"].cum_min().shift(1).fill_null(float("inf"))
    return measured.filter((pl.col("loss") < best) & ~pl.col("is_of_study"))


@dataclass(frozen=True)
class _Layers:
    """The data of a network's panels: lines, and points of other schemes with their names."""

    lines: alt.Chart
    points: alt.Chart | None
    names: alt.Chart | None


def _layers(rows: pl.DataFrame, families: list[str], *, y_named: bool) -> _Layers:
    others = rows.filter(~pl.col("is_of_study"))
    widths = rows["bits"].to_list()
    bits = sorted({int(width) for width in widths} | {math.ceil(max(widths))})
    draw = partial(_encoded, bits=bits, families=families, y_named=y_named)
    lines = draw(rows.filter("is_of_study"))
    if others.is_empty():
        return _Layers(lines, None, None)
    return _Layers(lines, draw(others), draw(_labelled(rows)))


def _encoded(
    rows: pl.DataFrame, bits: list[int], families: list[str], *, y_named: bool
) -> alt.Chart:
    """The encodings in both panels of a network."""
    chart: alt.Chart = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "bits:Q",
            title="Bits per weight",
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
            alt.Tooltip("bits:Q", title="Bits per weight", format=".4~g"),
            alt.Tooltip("loss:Q", title="Relative loss", format=".2%"),
            alt.Tooltip("kind:N", title="Kind"),
        ],
    )
    return chart


def _placed(chart: alt.Chart, scale: alt.Scale, part: str) -> alt.Chart:
    """The chart with the y scale of a panel."""
    placed: alt.Chart = chart.copy()
    placed.encoding.y = placed.encoding.y.copy()
    placed.encoding.y.scale = scale
    if part == "whole":
        placed.encoding.x = placed.encoding.x.copy()
        placed.encoding.x.title = None
    return placed


def _panel(shown: _Layers, scale: alt.Scale, part: str, *, is_predicted: bool) -> alt.LayerChart:
    placed = _placed(shown.lines, scale, part)
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
    layers = [line, placed.mark_point(filled=True, size=22, clip=True)]
    if shown.points is not None:
        points = _placed(shown.points, scale, part)
        layers.append(points.mark_point(shape="square", filled=True, size=26, clip=True))
    if shown.names is not None and part == "decisive":
        named = _placed(shown.names, scale, part).encode(text="number_format:N")
        named = named.mark_text(align="right", dx=-5, fontSize=8, clip=True)
        layers.append(named.encode(color=alt.value("grey")))
    return layer_charts(*layers).properties(width=PANEL_WIDTH, height=HEIGHTS[part])
