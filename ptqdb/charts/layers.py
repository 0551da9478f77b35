"""What each layer adds to a network's divergence in each number format, as a heat map."""

import altair as alt
import polars as pl
from polars import selectors as cs

from ptqdb.charts.rows import inline
from ptqdb.charts.style import CELL, format_key, themed, title
from ptqdb.errors import DataError

# Many layers get lower rows: the picture of several networks stays below this height.
MOST_HEIGHT = 1800
LEAST_ROW = 4


def layers_chart(frame: pl.DataFrame, *, theme: str = "light") -> alt.VConcatChart:
    """Draw layers x formats, a map per network, the colour what the layer contributes.

    Parameters
    ----------
    frame
        Rows of the view ``layer_divergence``.

    Raises
    ------
    DataError
        There is no row.
    UsageError
        No such theme.
    """
    numbers = pl.col("share", "divergence", "contribution").cast(pl.Float64)
    rows = frame.with_columns(numbers).filter(pl.col("contribution").is_finite())
    if rows.is_empty():
        raise DataError("expected layers with a divergence, found none; collect the network first")
    formats = sorted(set(rows["number_format"]), key=format_key)
    layer_count = rows.select("network", "layer").unique().height
    row = max(LEAST_ROW, min(CELL - 1, MOST_HEIGHT // layer_count))
    largest = max(float(rows["contribution"].to_numpy().max()), 1e-9)
    networks = sorted(set(rows["network"]))
    maps = [
        _map(rows.filter(pl.col("network") == name), name, formats, row, largest)
        for name in networks
    ]
    chart: alt.VConcatChart = (
        alt.vconcat(*maps, spacing=18)
        .resolve_scale(color="shared", x="shared")
        .properties(
            title=title(
                "What each layer adds to the divergence",
                "share of the network's MACs times Jensen-Shannon divergence (base 2) of weight "
                "and bias",
                "layers in the order of execution; each column adds up to fakefreeze_flops",
            )
        )
    )
    return themed(chart, theme)


def _map(rows: pl.DataFrame, name: str, formats: list[str], row: int, largest: float) -> alt.Chart:
    layers = rows.sort("position")["layer"].unique(maintain_order=True).to_list()
    chart: alt.Chart = (
        alt.Chart(inline(rows.drop(cs.starts_with("weight_"))))
        .mark_rect()
        .encode(
            x=alt.X(
                "number_format:N",
                sort=formats,
                title=None,
                axis=alt.Axis(labelAngle=-90, labelFontSize=10, ticks=False, domain=False),
                scale=alt.Scale(domain=formats),
            ),
            y=alt.Y(
                "layer:N",
                sort=layers,
                title=None,
                axis=alt.Axis(labelFontSize=10, ticks=False, domain=False, labelOverlap="greedy"),
            ),
            color=alt.Color(
                "contribution:Q",
                title="Contribution",
                scale=alt.Scale(type="sqrt", domain=[0, largest], interpolate="lab"),
                legend=alt.Legend(format="~g", gradientLength=160),
            ),
            tooltip=[
                alt.Tooltip("network:N", title="Network"),
                alt.Tooltip("layer:N", title="Layer"),
                alt.Tooltip("kind:N", title="Kind"),
                alt.Tooltip("number_format:N", title="Format"),
                alt.Tooltip("share:Q", title="Share of MACs", format=".2%"),
                alt.Tooltip("divergence:Q", title="Divergence", format=".4g"),
                alt.Tooltip("contribution:Q", title="Contribution", format=".4g"),
            ],
        )
        .properties(
            width=CELL * len(formats), height=row * len(layers), title=title(name, small=True)
        )
    )
    return chart
