"""Views or curves side by side, on the same formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from ptqdb.charts.axes import XAxis, axis_title
from ptqdb.charts.curves import curve_layers
from ptqdb.charts.panels import side_by_side
from ptqdb.charts.points import drawable_rows, points_layer, whose
from ptqdb.charts.style import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    family_order,
    layer_charts,
    panel_columns,
    title,
)
from ptqdb.defaults import COVERAGE
from ptqdb.fitting.view_fit import GroupFit

if TYPE_CHECKING:
    from ptqdb.fitting.intervals import LossPredictor


@dataclass(frozen=True)
class Variant:
    """The content of one panel: a view's rows, and one curve over them.

    Attributes
    ----------
    frame, view
        As in `ptqdb.charts.fit.fit_chart`.
    fit
        The fit to all rows, or to one network's.
    predictor
        Gives the band; None: no band.
    """

    frame: pl.DataFrame
    view: str
    fit: GroupFit
    predictor: "LossPredictor | None" = None


def variants_chart(
    variants: Sequence[Variant],
    *,
    network: str | None = None,
    x_scale: str = "auto",
    theme: str = "light",
) -> alt.ConcatChart:
    """Draw views, or curves over one view, side by side with their goodness of fit.

    Parameters
    ----------
    variants
        In the order of the panels.
    network
        Draw only its points, coloured by family.
    x_scale, theme
        As in `ptqdb.charts.fit.fit_chart`.

    Raises
    ------
    DataError
        No row of a view has a divergence and a loss.
    UsageError
        No such scale or theme.
    """
    views = list(dict.fromkeys(variant.view for variant in variants))
    rows = [drawable_rows(one.frame, network) for one in variants]
    every = pl.concat(part.select("network", "family") for part in rows)
    panels = [
        _panel(
            variant,
            part,
            x_scale,
            family_order(every["family"]),
            y_named=place % panel_columns(len(variants)) == 0,
            heading=variant.fit.curve if len(views) == 1 else variant.view,
        )
        for place, (variant, part) in enumerate(zip(variants, rows, strict=True))
    ]
    curves = ", ".join(dict.fromkeys(variant.fit.curve for variant in variants))
    named = " and ".join(views) if len(views) < 3 else f"{len(views)} views"
    said = "faint step: isotonic regression (upper bound)"
    if any(variant.predictor for variant in variants):
        said += f"; shaded: {COVERAGE:.0%} prediction interval for a new network"
    return side_by_side(panels, f"{named}: {whose(every)}", f"{curves}; {said}", theme=theme)


def _panel(
    variant: Variant,
    rows: pl.DataFrame,
    x_scale: str,
    families: list[str],
    *,
    y_named: bool,
    heading: str,
) -> alt.LayerChart:
    axis = XAxis.of(rows["divergence"].to_numpy(), x_scale)
    below, above = curve_layers([variant.fit], axis, predictor=variant.predictor)
    points = points_layer(
        rows,
        axis,
        axis_title(variant.view),
        small=True,
        y_named=y_named,
        families=families,
    )
    return layer_charts(*below, points, *above).properties(
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
        title=title(heading, _worth(variant.fit), _wrong(variant.fit), small=True),
    )


def _worth(fit: GroupFit) -> str:
    if fit.r_squared is None:
        return "not fitted"
    held_out = fit.held_out_r_squared
    said = f"R² {fit.r_squared:.4f}"
    return said if held_out is None else f"{said}, held out {held_out:.4f}"


def _wrong(fit: GroupFit) -> str:
    return "" if fit.error is None else fit.error
