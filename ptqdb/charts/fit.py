"""The points of a view and the curves fitted to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import altair as alt

from ptqdb.charts.axes import Columns, XAxis, axis_title
from ptqdb.charts.curves import curve_layers
from ptqdb.charts.points import drawable_rows, points_layer, whose
from ptqdb.charts.style import HEIGHT, WIDTH, apply_theme, layer_charts, title
from ptqdb.defaults import COVERAGE
from ptqdb.errors import UsageError
from ptqdb.fitting.view_fit import ALL, CEILING, GroupFit

if TYPE_CHECKING:
    import polars as pl

    from ptqdb.fitting.intervals import LossPredictor


def fit_chart(
    frame: "pl.DataFrame",
    fits: Sequence[GroupFit],
    *,
    view: str,
    network: str | None = None,
    predictor: "LossPredictor | None" = None,
    x_scale: str = "auto",
    columns: Columns | None = None,
    theme: str = "light",
) -> alt.LayerChart:
    """Draw a view's points, or one network's, and the curves fitted to them.

    Parameters
    ----------
    frame
        The view's rows, with at least the columns ``network``, ``number_format``, ``family``,
        ``divergence`` and ``accuracy_loss`` (a fraction); rows without the last two are left
        out.
    fits
        As returned by `ptqdb.fitting.view_fit.fit_view_frame` by network, for one or more curves.
    view
        The view's name, which determines the axis title.
    network
        Draw this network's points (coloured by family) and curves. None draws all points
        (coloured by network) and the pooled curves.
    predictor
        Of the first curve: gives the prediction band for new networks. For one network it should
        be fitted to the others. None: no band.
    x_scale
        ``auto``, ``linear``, ``log`` or ``symlog``: see `ptqdb.charts.axes.XAxis.of`.
    columns
        Of a user's table, whose x and y are in `frame` as divergence and loss.
    theme
        ``light`` or ``dark``.

    Returns
    -------
    A layered chart: the band and the ceiling (isotonic regression, the upper bound for any
    monotone curve) below, then the points, and on top the curves whose fit succeeded. On a
    logarithmic axis, points at 0 or less are drawn at the left end, with a note in the subtitle.

    Raises
    ------
    UsageError
        No fit or row of that network; no such scale or theme.
    DataError
        No row has a divergence and a loss.
    """
    select_fits(fits, network)
    points = Drawn.of(frame, view, network, x_scale, columns)
    return points.with_curves(fits, predictor, theme)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The points of a chart, to which different curves can be added.

    Attributes
    ----------
    view, network
        As in `fit_chart`.
    rows, axis, layer
        The points as rows, their x axis and their chart layer.
    columns
        As in `fit_chart`.
    """

    view: str
    network: str | None
    rows: "pl.DataFrame"
    axis: XAxis
    layer: alt.Chart
    columns: Columns | None

    @classmethod
    def of(
        cls,
        frame: "pl.DataFrame",
        view: str,
        network: str | None,
        x_scale: str = "auto",
        columns: Columns | None = None,
    ) -> "Drawn":
        """Draw a view's points, or one network's; raises as `fit_chart` does."""
        rows = drawable_rows(frame, network, columns)
        axis = XAxis.of(rows["divergence"].to_numpy(), x_scale)
        x_title = axis_title(view) if columns is None else columns.x
        layer = points_layer(rows, axis, x_title, columns=columns)
        return cls(view, network, rows, axis, layer, columns)

    def with_curves(
        self, fits: Sequence[GroupFit], predictor: "LossPredictor | None", theme: str = "light"
    ) -> alt.LayerChart:
        """Return the whole chart; parameters and errors as in `fit_chart`."""
        chosen = select_fits(fits, self.network)
        below, above = curve_layers(chosen, self.axis, predictor=predictor)
        heading = title(
            f"{self.view}: {whose(self.rows)}",
            *(goodness(fit, self.columns) for fit in chosen),
            _legend(chosen, predictor, self.network),
            self.axis.note,
        )
        chart = layer_charts(*below, self.layer, *above)
        return apply_theme(chart.properties(width=WIDTH, height=HEIGHT, title=heading), theme)


def select_fits(fits: Sequence[GroupFit], network: str | None) -> list[GroupFit]:
    """Return the fits of a network, or the pooled ones.

    Raises
    ------
    UsageError
        There is none.
    """
    group = ALL if network is None else network
    chosen = [fit for fit in fits if fit.group == group]
    if not chosen:
        groups = ", ".join(dict.fromkeys(fit.group for fit in fits)) or "none"
        raise UsageError(f"expected a fit of {group}, found fits of {groups}; choose one of them")
    return chosen


def goodness(fit: GroupFit, columns: Columns | None = None) -> str:
    """Return the goodness of a fit as one line."""
    points = "1 point" if fit.points == 1 else f"{fit.points} points"
    if fit.fitted is None or fit.r_squared is None or fit.rmse is None:
        return f"{fit.curve} was not fitted to {points}: {fit.error}"
    held_out = fit.held_out_r_squared
    return (
        f"{fit.curve}: R² {fit.r_squared:.4f}, "
        + (f"held out {held_out:.4f}, " if held_out is not None else "")
        + (
            f"RMSE {fit.rmse:.2%} of the float accuracy"
            if columns is None
            else f"RMSE {fit.rmse:.4g}"
        )
        + f", {points}"
        + ", drawn with the mean loss at chance" * fit.fitted.function.uses_chance_loss
    )


def _legend(
    fits: Sequence[GroupFit], predictor: "LossPredictor | None", network: str | None
) -> str:
    """Explain the band and the faint step."""
    said = []
    if predictor is not None:
        losses = "a new network" if network is None else "this network"
        band = f"shaded: {COVERAGE:.0%} prediction interval for {losses}"
        said.append(band + ("" if network is None else ", from the others"))
    ceiling = fits[0].ceiling_r_squared
    if ceiling is not None and any(fit.fitted and fit.curve != CEILING for fit in fits):
        said.append(f"faint step: isotonic regression (upper bound), R² {ceiling:.4f}")
    return "; ".join(said)
