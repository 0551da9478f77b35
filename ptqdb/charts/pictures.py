"""Reads a chart's data from a study and draws it: one function per kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import polars as pl

from ptqdb.charts.reading import frontier_rows, layer_rows, view_rows
from ptqdb.database import read_view
from ptqdb.defaults import FIT_CURVE, FIT_VIEW, PREDICTION_VIEW, VIEW_OF_SMALL_NETWORKS
from ptqdb.errors import UsageError
from ptqdb.fitting.fitted_view import FittedView, fit_whole_view
from ptqdb.fitting.view_fit import ALL, select_network
from ptqdb.support.closest import closest_first

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from ptqdb.charts.axes import Columns

DEFAULT_VARIANTS = (
    *("fakefreeze_param", "fakefreeze_flops", "fakefreeze_flops_log"),
    *(PREDICTION_VIEW, "baseline_nsr", "baseline_bits"),
)
_OF_FIT_VIEW = ("fit", "networks", "residuals")


@dataclass(frozen=True)
class Request:
    """The options of a chart; options that the kind does not use are refused.

    Attributes
    ----------
    views
        Names or calls of ``variant``; empty: the defaults of the kind.
    curves
        Names; empty: the default of `ptqdb fit`.
    network
        Draw only this network; None: all, or for ``layers`` the first by name.
    layers
        For ``distribution``: ``LAYER`` or ``NETWORK:LAYER``; empty: the layers with the highest
        and the lowest kurtosis.
    x_scale
        ``auto``, ``linear``, ``log`` or ``symlog``; empty: ``auto``.
    theme
        ``light`` or ``dark``.
    """

    views: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    network: str | None = None
    layers: tuple[str, ...] = ()
    x_scale: str = ""
    theme: str = "light"

    @property
    def view(self) -> str:
        """The view, for kinds that take one."""
        return self.views[0] if self.views else FIT_VIEW


def draw(connection: "DuckDBPyConnection", kind: str, request: Request | None = None) -> Any:
    """Draw a chart of a study.

    Parameters
    ----------
    kind
        One of `KINDS`.
    request
        None: the kind's defaults.

    Returns
    -------
    An Altair chart.

    Raises
    ------
    UsageError
        No such kind, view, curve, network, layer, scale or theme; the message lists the valid
        ones. Or an option that the kind does not use.
    DataError
        The study has nothing to draw.
    """
    if kind not in _KINDS:
        names = ", ".join(closest_first(kind, _KINDS))
        raise UsageError(f"expected a kind of chart, found {kind!r}; choose one of {names}")
    request = request or Request()
    _refuse_unused(kind, request)
    if not request.views and kind in _OF_FIT_VIEW:
        request = replace(request, views=(_view_with_rows(connection),))
    from altair.utils.schemapi import debug_mode

    # Altair would validate each part at every step, which takes most of the time. The tests
    # validate the finished charts.
    with debug_mode(False):
        return _KINDS[kind].draw(connection, _resolved(request))


def _resolved(request: Request) -> Request:
    """The request with the defaults of all kinds filled in."""
    return replace(
        request, curves=request.curves or (FIT_CURVE,), x_scale=request.x_scale or "auto"
    )


def _view_with_rows(connection: "DuckDBPyConnection") -> str:
    """`FIT_VIEW`, or the view of small networks if no row of `FIT_VIEW` has a divergence."""
    frame = read_view(connection, FIT_VIEW)
    is_empty = frame.height and frame["divergence"].null_count() == frame.height
    return VIEW_OF_SMALL_NETWORKS if is_empty else FIT_VIEW


def _refuse_unused(kind: str, request: Request) -> None:
    """Refuse an option that would have no effect."""
    given = {
        "view": request.views,
        "curve": request.curves,
        "network": () if request.network is None else (request.network,),
        "layer": request.layers,
        "x-scale": (request.x_scale,) if request.x_scale else (),
    }
    for option, values in given.items():
        most = _KINDS[kind].most(option)
        if not values or most is None or len(values) <= most:
            continue
        if most:
            raise UsageError(
                f"--{option}: chart {kind} draws one, found {', '.join(values)}; choose one of them"
            )
        others = ", ".join(name for name in KINDS if _KINDS[name].most(option) != 0)
        raise UsageError(f"chart {kind} takes no --{option}, only {others} do: remove --{option}")


# --- loss over divergence --------------------------------------------------------------------


def _fitted(
    connection: "DuckDBPyConnection", view: str, curve: str, network: str | None = None
) -> FittedView:
    return fit_whole_view(view_rows(connection, view, network), view, curve)


def _fit(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import fit_chart

    network = request.network
    whole = [_fitted(connection, request.view, curve, network) for curve in request.curves]
    frame, predictor = whole[0].frame, whole[0].predictor
    if network is not None:
        others = frame.filter(pl.col("network") != network)
        predictor = (
            None
            if others.is_empty()
            else fit_whole_view(others, request.view, request.curves[0], by_network=False).predictor
        )
    return fit_chart(
        frame,
        [fit for one in whole for fit in one.fits],
        view=request.view,
        network=network,
        predictor=predictor,
        x_scale=request.x_scale,
        theme=request.theme,
    )


def _networks(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import networks_chart

    whole = [_fitted(connection, request.view, curve) for curve in request.curves]
    return networks_chart(
        whole[0].frame,
        [fit for one in whole for fit in one.fits],
        view=request.view,
        x_scale=request.x_scale,
        theme=request.theme,
    )


def _variants(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import variants_chart
    from ptqdb.charts.variants import Variant

    group = ALL if request.network is None else request.network
    variants = []
    for view in request.views or DEFAULT_VARIANTS:
        for curve in request.curves:
            whole = _fitted(connection, view, curve, request.network)
            band = whole.predictor if request.network is None else None
            variants.append(Variant(whole.frame, view, whole.of(group), band))
    return variants_chart(
        variants, network=request.network, x_scale=request.x_scale, theme=request.theme
    )


def _crowding(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import crowding_chart

    view = request.views[0] if request.views else "fakefreeze_flops"
    frame = view_rows(connection, view, request.network)
    if request.network is not None:
        frame = select_network(frame, request.network)
    return crowding_chart(frame, view=view, theme=request.theme)


def _residuals(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import residuals_chart
    from ptqdb.fitting.view_fit import fit_view_frame

    frame = view_rows(connection, request.view)
    (pool,) = fit_view_frame(
        frame, view=request.view, curve=request.curves[0], by=None, leave_out_by=None
    )
    return residuals_chart(frame, pool, view=request.view, theme=request.theme)


def _frontier(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import frontier_chart

    view = request.views[0] if request.views else PREDICTION_VIEW
    rows = view_rows(connection, view, request.network)
    frame, said = frontier_rows(
        fit_whole_view(rows, view, request.curves[0], by_network=False), request.curves[0]
    )
    if request.network is not None:
        frame = select_network(frame, request.network)
    return frontier_chart(frame, subtitle=said, theme=request.theme)


# --- a user's table --------------------------------------------------------------------------

TABLE_KINDS = ("fit", "networks")
SERIES = ("family", "series")


def draw_table(
    frame: pl.DataFrame,
    columns: "Columns",
    kind: str = "fit",
    *,
    name: str,
    by: str | None = None,
    request: Request | None = None,
) -> Any:
    """Draw the points of a user's table, and curves fitted to them, without a study.

    Parameters
    ----------
    frame
        As returned by `ptqdb.fitting.points_table.read_points`. The optional column
        ``number_format`` names the points; ``family`` or ``series`` determines their shapes.
    kind
        ``fit`` or ``networks``.
    name
        The table's name in the chart.
    by
        The column that groups the points; None: ``network``, if there is one.
    request
        Curves, network (a value of `by`), scale and theme.

    Raises
    ------
    UsageError
        Another kind, no such curve, network, scale or theme.
    DataError
        There are no points.
    """
    from ptqdb.charts import fit_chart, networks_chart
    from ptqdb.fitting.view_fit import fit_view_frame

    request = _resolved(request or Request())
    if kind not in TABLE_KINDS:
        raise UsageError(
            f"expected a chart of a table, found {kind}; choose one of {', '.join(TABLE_KINDS)}"
        )
    points = _named_points(frame, columns, by)
    if request.network is not None:
        select_network(points, request.network)
    fits = [
        fit
        for curve in request.curves
        for fit in fit_view_frame(points, view=name, curve=curve, x="divergence")
    ]
    if kind == "networks":
        return networks_chart(
            points, fits, view=name, x_scale=request.x_scale, columns=columns, theme=request.theme
        )
    return fit_chart(
        points,
        fits,
        view=name,
        network=request.network,
        x_scale=request.x_scale,
        columns=columns,
        theme=request.theme,
    )


def _named_points(frame: pl.DataFrame, columns: "Columns", by: str | None) -> pl.DataFrame:
    """The points with the columns of a view."""
    from ptqdb.fitting.view_fit import finite_rows

    finite = finite_rows(frame, x=columns.x, y=columns.y)
    group = by or ("network" if "network" in frame.columns else None)
    series = next((name for name in SERIES if name in frame.columns), None)
    kept: dict[str, pl.Expr] = {
        "network": pl.lit("all points") if group is None else pl.col(group).cast(pl.String),
        "family": pl.lit("points") if series is None else pl.col(series).cast(pl.String),
        "divergence": pl.col(columns.x),
        "accuracy_loss": pl.col(columns.y),
    }
    if "number_format" in frame.columns:
        kept["number_format"] = pl.col("number_format").cast(pl.String)
        if series is None:
            kept["family"] = pl.col("number_format").cast(pl.String).str.split("_").list.first()
    named = pl.col("network", "family").fill_null("NULL")
    return finite.select(**kept).with_columns(named)


# --- layers ----------------------------------------------------------------------------------


def _layers(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import layers_chart

    view = request.views[0] if request.views else PREDICTION_VIEW
    rows = layer_rows(connection, view)
    names = sorted(set(rows.filter(pl.col("contribution").is_finite())["network"]))
    network = request.network or next(iter(names), None)
    if network is not None:
        rows = select_network(rows, network)
    among = 1 if request.network else len(names)
    return layers_chart(rows, view=view, among=among, theme=request.theme)


def _distribution(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import distribution_chart
    from ptqdb.charts.distributions import choose_layers, read_distributions

    layers = choose_layers(connection, request.layers, request.network)
    return distribution_chart(read_distributions(connection, layers), theme=request.theme)


# --- every view ------------------------------------------------------------------------------


def _leaderboard(connection: "DuckDBPyConnection", request: Request) -> Any:
    from ptqdb.charts import leaderboard_chart
    from ptqdb.charts.board import read_board

    entries, note = read_board(connection, request.views)
    return leaderboard_chart(entries, note=note, theme=request.theme)


@dataclass(frozen=True)
class _Kind:
    """A kind of chart: the function that draws it, and its largest number of values per option.

    None means any number.
    """

    draw: Callable[["DuckDBPyConnection", Request], Any]
    view: int | None = 0
    curve: int | None = 0
    network: int | None = 0
    layer: int | None = 0
    x_scale: int | None = 0

    def most(self, option: str) -> int | None:
        """Largest number of values for an option; 0: the kind does not use it."""
        found: int | None = getattr(self, option.replace("-", "_"))
        return found


_KINDS: MappingProxyType[str, _Kind] = MappingProxyType(
    {
        "fit": _Kind(_fit, view=1, curve=None, network=1, x_scale=1),
        "networks": _Kind(_networks, view=1, curve=None, x_scale=1),
        "variants": _Kind(_variants, view=None, curve=None, network=1, x_scale=1),
        "distribution": _Kind(_distribution, network=1, layer=None),
        "layers": _Kind(_layers, view=1, network=1),
        "frontier": _Kind(_frontier, view=1, curve=1, network=1),
        "leaderboard": _Kind(_leaderboard, view=None),
        "crowding": _Kind(_crowding, view=1, network=1),
        "residuals": _Kind(_residuals, view=1, curve=1),
    }
)
KINDS: Sequence[str] = tuple(_KINDS)
