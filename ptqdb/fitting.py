"""A curve fitted over a view: to all its points, and to each network's (or other group's)."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from ptqdb.closest import closest_first
from ptqdb.curves import Curve
from ptqdb.curves import curve as curve_by_name
from ptqdb.errors import DataError, UsageError

if TYPE_CHECKING:
    from ptqdb.curves.function import CurveFit
    from ptqdb.curves.model import CurveResults

ALL = "ALL"


@dataclass(frozen=True)
class GroupFit:
    """One curve fitted to one group of a view's rows.

    Attributes
    ----------
    view, curve, by
        What was fitted to what, and the column that groups.
    group
        ``ALL`` for the pool of every row, or one value of the column `by`.
    points
        Points in the fit: rows with a finite divergence and loss.
    r_squared, rmse, sse
        1 - sse / (sum of squares about the mean); root of sse / points, a fraction like the
        loss; sum of the squared residuals. None where nothing was fitted.
    monotone
        Whether the curve is proved non-decreasing over the points' range; None as above.
    params
        The curve's parameters, in the order of its model; empty as above.
    dropped
        Rows left out for want of a finite divergence or loss.
    error
        Why nothing was fitted, or None.
    fitted
        The curve and its points, for predictions; not part of `as_dict`. None as above.
    """

    view: str
    curve: str
    by: str
    group: str
    points: int
    r_squared: float | None = None
    rmse: float | None = None
    sse: float | None = None
    monotone: bool | None = None
    params: tuple[float, ...] = ()
    dropped: int = 0
    error: str | None = None
    fitted: "CurveFit | None" = field(default=None, repr=False, compare=False)

    @cached_property
    def results(self) -> "CurveResults | None":
        """The same fit with the statistics of statsmodels (a second or two to import), or None."""
        if self.fitted is None:
            return None
        points = self.fitted.points
        model = curve_by_name(self.curve).model(points.x, points.y, **points.columns)
        return model.results(self.fitted.params)

    @property
    def note(self) -> str | None:
        """What a reader must know about this fit, or None."""
        rows = "row" if self.dropped == 1 else "rows"
        dropped = f"{self.dropped} {rows} without a finite divergence and loss left out"
        parts = [self.error or "", dropped if self.dropped else ""]
        return "; ".join(part for part in parts if part) or None

    def as_dict(self) -> dict[str, Any]:
        """Return what is printed and stored: plain values, and ``note`` where there is one."""
        names = ("view", "curve", "by", "group", "points", "r_squared", "rmse", "sse", "monotone")
        row = {name: getattr(self, name) for name in names}
        row["params"] = list(self.params)
        return row if self.note is None else row | {"note": self.note}


def fit_view_frame(
    frame: pl.DataFrame,
    *,
    view: str,
    curve: str,
    by: str = "network",
    x: str = "divergence",
    y: str = "accuracy_loss",
) -> list[GroupFit]:
    """Fit a curve to all rows of a view, and to each group's.

    Parameters
    ----------
    frame
        The view's rows, one per network and number format.
    view
        Its name, passed on to the results.
    curve
        Name of the curve, such as ``rational2``.
    by
        Column whose values are the groups.
    x, y
        Columns of numbers; rows where either is NULL, NaN or infinite are left out.

    Returns
    -------
    ``ALL`` first, then the groups in ascending order. A group that cannot carry the curve (too
    few points, or all alike) has `error` in place of figures.

    Raises
    ------
    UsageError
        No such curve or column.
    """
    chosen = curve_by_name(curve)
    for column in (by, x, y):
        if column not in frame.columns:
            names = ", ".join(closest_first(column, frame.columns))
            raise UsageError(
                f"expected a column of the view {view}, found {column!r}; choose one of {names}"
            )
    points = frame.select(
        group=pl.col(by), x=pl.col(x).cast(pl.Float64), y=pl.col(y).cast(pl.Float64)
    )
    groups = points["group"].unique().sort(nulls_last=True).to_list()
    fits = [_fit_group(points, chosen, view, by, ALL)]
    for group in groups:
        rows = points.filter(pl.col("group").eq_missing(pl.lit(group)))
        fits.append(_fit_group(rows, chosen, view, by, "NULL" if group is None else str(group)))
    return fits


def _fit_group(rows: pl.DataFrame, chosen: Curve, view: str, by: str, group: str) -> GroupFit:
    finite = rows.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
    fit = GroupFit(
        view=view,
        curve=chosen.name,
        by=by,
        group=group,
        points=finite.height,
        dropped=rows.height - finite.height,
    )
    try:
        fitted = chosen.estimate(finite["x"].to_numpy(), finite["y"].to_numpy())
    except DataError as error:
        return replace(fit, error=str(error))
    return replace(
        fit,
        r_squared=fitted.rsquared,
        rmse=fitted.rmse,
        sse=fitted.ssr,
        monotone=fitted.monotone,
        params=tuple(fitted.params.tolist()),
        fitted=fitted,
    )


def of_network(frame: pl.DataFrame, network: str) -> pl.DataFrame:
    """The rows of one network.

    Raises
    ------
    UsageError
        The frame has no such network; the message lists those that it has, the closest first.
    """
    names = frame["network"].unique().sort().to_list()
    if network not in names:
        raise UsageError(
            f"expected a network of the view, found {network!r}; "
            f"choose one of {', '.join(closest_first(network, names)) or '(the view is empty)'}"
        )
    return frame.filter(pl.col("network") == network)
