"""Heat maps of each layer's contribution to the divergence, and of its loss quantized alone."""

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from ptqdb.charts.rows import inline
from ptqdb.charts.style import CELL, apply_theme, format_key, title
from ptqdb.errors import DataError
from ptqdb.fitting.validation import rank_correlation

# Rows shrink if there are many layers, to keep the chart below this height.
MOST_HEIGHT = 1800
LEAST_ROW = 4
LOSS_COLUMNS = ("accuracy_loss", "accuracy_loss_se", "images")


def layers_chart(
    frame: pl.DataFrame, *, view: str, among: int = 1, theme: str = "light"
) -> alt.HConcatChart:
    """Draw layers x formats of a network, the layer with the largest contribution first.

    The colour shows a layer's part of all contributions in the format, so that wide formats, with
    small contributions, are readable, too. Layers are ranked by its mean. If layers were
    evaluated alone, a second map shows the accuracy loss of each.

    Parameters
    ----------
    frame
        Rows of ``layer_divergence`` of one network, optionally with the columns ``accuracy_loss,
        accuracy_loss_se, images`` of ``layer_loss``, NULL for layers not evaluated alone.
    view
        The view whose divergence the contributions add up to.
    among
        Number of networks of which this is the first.

    Raises
    ------
    DataError
        No layer has a contribution.
    UsageError
        No such theme.
    """
    numbers = pl.col("share", "divergence", "contribution").cast(pl.Float64)
    rows = _ranked(frame.with_columns(numbers).filter(pl.col("contribution").is_finite()), view)
    (network,) = rows["network"].unique()
    layers = rows.sort("rank")["layer"].unique(maintain_order=True).to_list()
    height = max(LEAST_ROW, min(CELL - 1, MOST_HEIGHT // len(layers))) * len(layers)
    maps = [_contributions(rows, layers, height)]
    said = [
        f"each layer's part of all contributions to {view}, per format",
        "layers are sorted by their mean part over the formats",
    ]
    alone = rows.filter(pl.col("accuracy_loss").is_finite()) if _has_losses(rows) else rows.clear()
    if not alone.is_empty():
        maps.append(_losses(alone, layers, height))
        said.append(f"right: the loss with only that layer quantized{_agreement(alone)}")
    if among > 1:
        said.append(f"the first of {among} networks")
    chart: alt.HConcatChart = (
        alt.hconcat(*maps, spacing=18)
        .resolve_scale(color="independent", y="shared")
        .properties(title=title(f"Layers of {network}", *said))
    )
    return apply_theme(chart, theme)


def _ranked(rows: pl.DataFrame, view: str) -> pl.DataFrame:
    """Add each layer's part of the divergence in a format, and its rank by the mean part."""
    if rows.is_empty():
        raise DataError(
            f"expected layers with a contribution to {view}, found none; collect the network "
            "first, or choose another view"
        )
    total = pl.col("contribution").sum().over("number_format")
    rows = rows.with_columns(
        part=pl.when(total > 0).then(pl.col("contribution") / total).otherwise(0.0)
    )
    mean = rows.group_by("layer").agg(
        pl.col("part").mean().alias("mean_part"), pl.col("position").first().alias("place")
    )
    ranks = mean.sort("mean_part", "place", descending=[True, False]).with_row_index("rank", 1)
    return rows.join(ranks.select("layer", "rank", "mean_part"), on="layer", how="left")


def _has_losses(rows: pl.DataFrame) -> bool:
    return set(LOSS_COLUMNS) <= set(rows.columns)


def _agreement(alone: pl.DataFrame) -> str:
    """The mean rank correlation of contributions and losses in a format; empty if unknown."""
    found = [
        rank_correlation(
            rows["contribution"].to_numpy().astype(np.float64),
            rows["accuracy_loss"].to_numpy().astype(np.float64),
        )
        for _, rows in alone.group_by("number_format", maintain_order=True)
    ]
    known = [value for value in found if value is not None]
    if not known:
        return ""
    return f"; mean rank correlation with the contributions {float(np.mean(known)):.2f}"


def _map(
    rows: pl.DataFrame,
    layers: list[str],
    height: int,
    heading: str,
    color: alt.Color,
    tooltip: list[alt.Tooltip],
    **y_axis: Any,
) -> alt.Chart:
    """Layers x formats as rectangles."""
    formats = sorted(set(rows["number_format"]), key=format_key)
    axis = alt.Axis(labelFontSize=10, ticks=False, domain=False, labelOverlap="greedy", **y_axis)
    chart: alt.Chart = (
        alt.Chart(inline(rows))
        .mark_rect()
        .encode(
            x=alt.X(
                "number_format:N",
                sort=formats,
                title=None,
                axis=alt.Axis(labelAngle=-90, labelFontSize=10, ticks=False, domain=False),
                scale=alt.Scale(domain=formats),
            ),
            y=alt.Y("layer:N", sort=layers, title=None, axis=axis, scale=alt.Scale(domain=layers)),
            color=color,
            tooltip=[
                alt.Tooltip("layer:N", title="Layer"),
                alt.Tooltip("kind:N", title="Kind"),
                alt.Tooltip("position:Q", title="Position"),
                alt.Tooltip("rank:Q", title="Rank"),
                alt.Tooltip("number_format:N", title="Format"),
                *tooltip,
            ],
        )
        .properties(width=CELL * len(formats), height=height, title=title(heading, small=True))
    )
    return chart


def _color(column: str, name: str, largest: float, form: str) -> alt.Color:
    scale = alt.Scale(
        type="sqrt",
        domain=[0, max(largest, 1e-9)],
        interpolate="lab",
        clamp=True,
    )
    legend = alt.Legend(format=form, gradientLength=120)
    return alt.Color(f"{column}:Q", title=name, scale=scale, legend=legend)


def _contributions(rows: pl.DataFrame, layers: list[str], height: int) -> alt.Chart:
    largest = float(rows["part"].to_numpy().max())
    shown = ["layer", "kind", "position", "rank", "number_format"]
    return _map(
        rows.select(*shown, "share", "divergence", "contribution", "part"),
        layers,
        height,
        "Part of the divergence",
        _color("part", "Part", largest, "~%"),
        [
            alt.Tooltip("share:Q", title="Share of the network", format=".2%"),
            alt.Tooltip("divergence:Q", title="Divergence", format=".4g"),
            alt.Tooltip("contribution:Q", title="Contribution", format=".4g"),
            alt.Tooltip("part:Q", title="Part of all contributions", format=".1%"),
        ],
    )


def _losses(rows: pl.DataFrame, layers: list[str], height: int) -> alt.Chart:
    numbers = pl.col("accuracy_loss", "accuracy_loss_se").cast(pl.Float64)
    rows = rows.with_columns(numbers, images=pl.col("images").cast(pl.Int64))
    largest = float(rows["accuracy_loss"].to_numpy().max())
    shown = ["layer", "kind", "position", "rank", "number_format"]
    return _map(
        rows.select(*shown, "contribution", *LOSS_COLUMNS),
        layers,
        height,
        "Accuracy loss, layer alone",
        _color("accuracy_loss", "Relative loss", largest, "%"),
        [
            alt.Tooltip("accuracy_loss:Q", title="Relative loss", format=".2%"),
            alt.Tooltip("accuracy_loss_se:Q", title="Standard error", format=".2%"),
            alt.Tooltip("images:Q", title="Images"),
            alt.Tooltip("contribution:Q", title="Contribution", format=".4g"),
        ],
        labels=False,
    )
