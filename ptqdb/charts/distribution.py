"""Histograms of a layer's weights, float and quantized in a few formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from ptqdb.charts.rows import inline
from ptqdb.charts.style import SMALL_AXIS, apply_theme, title
from ptqdb.errors import DataError

FORMATS = ("INT_4", "INT_5", "POT_5", "FLOAT_5_E3")
PANEL_WIDTH, PANEL_HEIGHT = 400, 78
FLOAT = "float"


@dataclass(frozen=True)
class Distribution:
    """The histograms of one layer's weight.

    Attributes
    ----------
    network, layer
        Their names.
    bins
        Columns ``number_format`` (NULL for float), ``bin``, ``value``, ``share`` and ``count``,
        as in the view ``tensor_distribution``.
    divergences
        By number format: Jensen-Shannon divergence (base 2) from the float histogram.
    kurtosis
        3 for a normal distribution; None for a constant.
    """

    network: str
    layer: str
    bins: pl.DataFrame
    divergences: dict[str, float]
    kurtosis: float | None

    @property
    def heading(self) -> str:
        """The layer and its kurtosis."""
        shape = "" if self.kurtosis is None else f", kurtosis {self.kurtosis:.1f}"
        return f"{self.network}, {self.layer}{shape}"


def distribution_chart(
    distributions: Sequence[Distribution],
    *,
    formats: Sequence[str] = FORMATS,
    theme: str = "light",
) -> alt.ConcatChart:
    """Draw each layer's float histogram above those of the formats, with one x axis.

    Parameters
    ----------
    distributions
        One layer, or several side by side.
    formats
        From top to bottom; formats that were not collected are left out.

    Raises
    ------
    DataError
        A layer has no histogram.
    UsageError
        No such theme.
    """
    columns = [_panels(one, formats) for one in distributions]
    rows = max(len(column) for column in columns)
    # Pad columns of layers that lack a format with empty panels.
    grid = [
        column[row] if row < len(column) else alt.Chart(inline(pl.DataFrame())).mark_point()
        for row in range(rows)
        for column in columns
    ]
    chart: alt.ConcatChart = (
        alt.concat(*grid, columns=len(columns), spacing={"row": 4, "column": 40})
        .resolve_scale(x="independent", y="independent")
        .properties(
            title=title(
                "Weights in floating point and quantized",
                "share of the elements in each of 63 bins; divergence: Jensen-Shannon divergence "
                "(base 2) from floating point",
            )
        )
    )
    return apply_theme(chart, theme)


def _panels(one: Distribution, formats: Sequence[str]) -> list[alt.Chart]:
    rows = one.bins.with_columns(
        pl.col("number_format").fill_null(FLOAT), pl.col("share", "value").cast(pl.Float64)
    )
    names = [name for name in (FLOAT, *formats) if name in set(rows["number_format"])]
    if FLOAT not in names:
        raise DataError(f"expected a histogram of {one.heading}, found none; collect it first")
    width = _bin_width(rows)
    rows = rows.with_columns(left=pl.col("value") - width / 2, right=pl.col("value") + width / 2)
    end = float(np.abs(rows.select("left", "right").to_numpy()).max())
    panels = []
    for name in names:
        said = _said(name, one.divergences.get(name))
        lines = title(one.heading, said, small=True) if name == FLOAT else _plain(said)
        of_format = rows.filter(pl.col("number_format") == name)
        panels.append(_panel(of_format, lines, end, is_last=name == names[-1]))
    return panels


def _plain(said: str) -> alt.TitleParams:
    return alt.TitleParams(said, fontSize=11, fontWeight="normal", offset=2)


def _said(name: str, divergence: float | None) -> str:
    return name if divergence is None else f"{name}: divergence {divergence:.3f}"


def _bin_width(rows: pl.DataFrame) -> float:
    """Distance between the centres of neighbouring bins."""
    outer = rows.filter(pl.col("bin") != 0)
    if outer.is_empty():
        return 1.0
    return float((outer["value"] / outer["bin"]).to_numpy()[0])


def _panel(rows: pl.DataFrame, heading: alt.TitleParams, end: float, *, is_last: bool) -> alt.Chart:
    x_axis: dict[str, Any] = {"labels": False, "ticks": False, "title": None}
    if is_last:
        x_axis = {"title": "Weight value", "format": "~g", "labelOverlap": "greedy"}
    chart: alt.Chart = (
        alt.Chart(inline(rows.select("number_format", "bin", "left", "right", "share", "count")))
        .mark_bar(style="bar")
        .encode(
            x=alt.X(
                "left:Q",
                axis=alt.Axis(tickCount=6, **x_axis, **SMALL_AXIS),
                scale=alt.Scale(domain=[-end, end], nice=False),
            ),
            x2=alt.X2("right:Q"),
            y2=alt.datum(0),
            y=alt.Y(
                "share:Q",
                title=None,
                # leave room above the highest bar: a label at the very top would shift the title
                scale=alt.Scale(domain=[0, 1.12 * float(rows["share"].to_numpy().max())]),
                axis=alt.Axis(format="%", tickCount=3, labelFontSize=10),
            ),
            tooltip=[
                alt.Tooltip("number_format:N", title="Format"),
                alt.Tooltip("left:Q", title="From", format=".4g"),
                alt.Tooltip("right:Q", title="To", format=".4g"),
                alt.Tooltip("share:Q", title="Share", format=".2%"),
                alt.Tooltip("count:Q", title="Elements"),
            ],
        )
        .properties(
            width=PANEL_WIDTH,
            height=PANEL_HEIGHT,
            title=heading,
        )
    )
    return chart
