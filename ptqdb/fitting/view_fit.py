"""Fits a curve to all points of a view, and to those of each network or other group."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ptqdb.curves import Curve
from ptqdb.curves import curve as curve_by_name
from ptqdb.curves.points import Points
from ptqdb.defaults import VIEW_OF_SMALL_NETWORKS
from ptqdb.errors import DataError, UsageError
from ptqdb.fitting.cross_validation import HeldOut, assign_folds, leave_out
from ptqdb.fitting.near_duplicates import format_weights
from ptqdb.fitting.record import FitRecord
from ptqdb.support.closest import closest_first

if TYPE_CHECKING:
    from ptqdb.curves.function import CurveFit
    from ptqdb.curves.model import CurveResults

ALL = "ALL"
CEILING = "isotonic"


@dataclass(frozen=True, kw_only=True)
class GroupFit(FitRecord):
    """One curve fitted to one group of a view's rows.

    Attributes
    ----------
    by, group
        The column of groups; one of its values, or ``ALL`` for all rows.
    ssr
        Sum of the squared residuals.
    dropped
        Rows left out because their divergence or loss is not finite.
    fitted
        The curve and its points, for predictions; not part of `as_dict`.
    """

    by: str
    group: str
    ssr: float | None = None
    dropped: int = 0
    fitted: "CurveFit | None" = field(default=None, repr=False, compare=False)

    @cached_property
    def results(self) -> "CurveResults | None":
        """The same fit with statsmodels' statistics (one or two seconds to import), or None."""
        if self.fitted is None:
            return None
        points = self.fitted.points
        model = curve_by_name(self.curve).model(points.x, points.y, **points.columns)
        return model.results(self.fitted.params)

    @property
    def note(self) -> str | None:
        """A remark on this fit for the user, or None."""
        rows = "row" if self.dropped == 1 else "rows"
        dropped = f"{self.dropped} {rows} without a finite divergence and loss left out"
        parts = [self.error or "", dropped if self.dropped else ""]
        return "; ".join(part for part in parts if part) or None

    def as_dict(self) -> dict[str, Any]:
        """Return the values to print and store, and ``note`` if there is one."""
        row = {name: getattr(self, name) for name in FIGURES}
        row["params"] = list(self.params)
        return row if self.note is None else row | {"note": self.note}


FIGURES = (
    *("view", "curve", "by", "group", "points", "r_squared", "adjusted_r_squared", "rmse", "ssr"),
    *("aic", "bic", "ceiling_r_squared", "held_out_r_squared", "held_out_rmse"),
    *("held_out_median_error", "monotone"),
)
"""The printed figures of a fit, before its params."""


def fit_view_frame(
    frame: pl.DataFrame,
    *,
    view: str,
    curve: str,
    by: str | None = "network",
    x: str = "divergence",
    y: str = "accuracy_loss",
    leave_out_by: str | None = "network",
) -> list[GroupFit]:
    """Fit a curve to all rows of a view, and to those of each group.

    Parameters
    ----------
    frame
        The view's rows, one per network and number format.
    view
        Its name, passed on to the results.
    curve
        Name of the curve, such as ``rational2``.
    by
        Column whose values are the groups; None: only ``ALL``.
    x, y
        Columns of numbers; rows where either is NULL, NaN or infinite are left out.
    leave_out_by
        Column whose values are left out one at a time for the held-out figures; None, or a
        column with a single value: no such figures.

    Returns
    -------
    ``ALL`` first, then the groups in ascending order. A group whose points are too few or all
    alike has `error` instead of figures. A group of whole units, such as a network, is predicted
    by curves fitted to the other groups. A group with a part of each unit, such as a family, is
    predicted by curves fitted to the rest of the group.

    Raises
    ------
    UsageError
        No such curve or column.
    """
    chosen = curve_by_name(curve)
    for column in (by, x, y, leave_out_by):
        if column is not None and column not in frame.columns:
            names = ", ".join(closest_first(column, frame.columns))
            raise UsageError(
                f"expected a column of the view {view}, found {column!r}; choose one of {names}"
            )
    finite = finite_rows(frame, x=x, y=y)
    points = view_points(finite, x=x, y=y)
    units = None if leave_out_by is None else unit_names(finite, leave_out_by)
    pool = None if units is None else leave_out(points, chosen, assign_folds(units))
    fits = []
    for group, members, dropped in _groups(frame, finite, by):
        fit = GroupFit(
            view=view,
            curve=chosen.name,
            by=by or "",
            group=group,
            points=int(members.sum()),
            dropped=dropped,
        )
        held_out = None
        if pool is not None and units is not None:
            held_out = _held_out(points, chosen, units, members, pool)
        fits.append(with_figures(fit, points.take(members), chosen, held_out))
    return fits


def finite_rows(
    frame: pl.DataFrame, *, x: str = "divergence", y: str = "accuracy_loss"
) -> pl.DataFrame:
    """Return the rows with finite x and y, as floats.

    Raises
    ------
    UsageError
        A column is not numeric.
    """
    for column in (x, y):
        if not (frame.schema[column].is_numeric() or frame.schema[column] == pl.Null):
            raise UsageError(
                f"expected numbers in {column}, found {frame.schema[column]}; choose another column"
            )
    rows = frame.with_columns(pl.col(x, y).cast(pl.Float64))
    return rows.filter(pl.col(x).is_finite() & pl.col(y).is_finite())


def view_points(frame: pl.DataFrame, *, x: str = "divergence", y: str = "accuracy_loss") -> Points:
    """Return the points of a view's rows, with the further columns that some curves need.

    Parameters
    ----------
    frame
        Without missing x and y. The optional columns ``float_accuracy`` and ``chance_accuracy``
        give the loss at chance; ``images`` and ``network`` (networks with the same weights count
        as one) are optional, too, and so are the columns that `format_weights` needs.
    """
    beside: dict[str, Any] = {}
    if {"float_accuracy", "chance_accuracy"} <= set(frame.columns):
        accuracy = frame["float_accuracy"].cast(pl.Float64)
        chance = frame["chance_accuracy"].cast(pl.Float64)
        beside["float_accuracy"] = accuracy
        beside["chance_loss"] = (accuracy - chance) / accuracy
    if "images" in frame.columns:
        beside["images"] = frame["images"].cast(pl.Float64)
    numbers = {name: values.to_numpy() for name, values in beside.items() if not _gaps(values)}
    if "network" in frame.columns:
        numbers["network"] = unit_names(frame, "network")
    weights = format_weights(frame)
    if weights is not None:
        numbers["weight"] = weights
    return Points(frame[x].to_numpy(), frame[y].to_numpy(), **numbers)


def _gaps(values: pl.Series) -> int:
    return int((~values.is_finite()).fill_null(True).sum())


def group_names(values: pl.Series) -> NDArray[np.str_]:
    """Values as text, NULL as ``NULL``."""
    return values.cast(pl.String).fill_null("NULL").to_numpy().astype(np.str_)


def unit_names(frame: pl.DataFrame, column: str) -> NDArray[np.str_]:
    """Return the unit of cross-validation of each row, shape (rows,): the values of a column.

    Networks with one checkpoint are one network under several names. Networks or architectures
    that share a checkpoint are one unit, named after the first of them.

    Parameters
    ----------
    frame
        A view's rows; the optional column ``weights_of`` says which networks share a checkpoint.
    column
        Such as ``network`` or ``architecture``.
    """
    units = group_names(frame[column])
    if "weights_of" not in frame.columns:
        return units
    found = pl.DataFrame({"unit": units, "checkpoint": group_names(frame["weights_of"])})
    while True:
        shared = found.with_columns(pl.col("unit").min().over("checkpoint").alias("least"))
        least = shared.select(pl.col("least").min().over("unit"))["least"]
        if least.equals(found["unit"]):
            return group_names(least)
        found = found.with_columns(least.alias("unit"))


def view_remarks(frame: pl.DataFrame, view: str) -> list[str]:
    """Return remarks on a view's rows: networks without divergence, or that count as one."""
    if "network" not in frame.columns:
        return []
    return [*twin_remarks(frame), *_without_divergence(frame, view)]


def _without_divergence(frame: pl.DataFrame, view: str) -> list[str]:
    if "divergence" not in frame.columns:
        return []
    counts = frame.group_by("network").agg(pl.col("divergence").count())
    names = counts.filter(pl.col("divergence") == 0)["network"].sort().to_list()
    if not names:
        return []
    reason = no_divergence_reason(view)
    return [f"{', '.join(names)}: no divergence in {view}" + (f": {reason}" if reason else "")]


def no_divergence_reason(view: str) -> str | None:
    """Why a network may have no divergence in a view, and what to do; None if unknown."""
    from ptqdb.database.variants import variant_words

    if variant_words(view).get("mac_weight") != "log":
        return None
    return (
        "log10(MMAC) is undefined up to 1 MMAC; choose a view without it, such as "
        f"{VIEW_OF_SMALL_NETWORKS}"
    )


def twin_remarks(frame: pl.DataFrame) -> list[str]:
    """Return remarks on networks that cross-validation treats as one."""
    if "weights_of" not in frame.columns:
        return []
    pairs = frame.select("weights_of", "network").unique().group_by("weights_of")
    twins = pairs.agg(pl.col("network").sort()).filter(pl.col("network").list.len() > 1)
    return [
        f"{', '.join(names)} have the same weights: they are left out together, as one network"
        for names in twins.sort("weights_of")["network"].to_list()
    ]


def _groups(
    rows: pl.DataFrame, finite: pl.DataFrame, by: str | None
) -> Iterator[tuple[str, NDArray[np.bool_], int]]:
    """Yield each group's name, its members among the finite rows, and its count of other rows."""
    yield ALL, np.full(finite.height, True), rows.height - finite.height
    if by is None:
        return
    for value in rows[by].unique().sort(nulls_last=True):
        members = finite.select(pl.col(by).eq_missing(pl.lit(value))).to_series().to_numpy()
        total = rows.select(pl.col(by).eq_missing(pl.lit(value)).sum()).item()
        yield "NULL" if value is None else str(value), members, int(total - members.sum())


def _held_out(
    points: Points,
    chosen: Curve,
    units: NDArray[np.str_],
    members: NDArray[np.bool_],
    pool: HeldOut,
) -> HeldOut:
    """The held-out predictions of a group: see `fit_view_frame`."""
    inside, outside = set(units[members]), set(units[~members])
    if inside & outside and len(inside) > 1:
        return leave_out(points.take(members), chosen, assign_folds(units[members]))
    return pool.where(members)


def with_figures(
    fit: GroupFit, points: Points, chosen: Curve, held_out: HeldOut | None
) -> GroupFit:
    """Return the fit with all its figures, or with the reason why there are none.

    Parameters
    ----------
    fit
        The fit without figures.
    points
        All points of the group.
    held_out
        The group's held-out predictions, if any.
    """
    try:
        fitted = chosen.estimate(points.x, points.y, **points.columns)
    except DataError as error:
        return replace(fit, error=str(error))
    ceiling = curve_by_name(CEILING).estimate(points.x, points.y)
    return replace(
        fit,
        r_squared=fitted.rsquared,
        adjusted_r_squared=_defined(fitted.rsquared_adj),
        rmse=fitted.rmse,
        ssr=fitted.ssr,
        aic=_defined(fitted.aic),
        bic=_defined(fitted.bic),
        ceiling_r_squared=ceiling.rsquared,
        held_out_r_squared=None if held_out is None else held_out.r_squared,
        held_out_rmse=None if held_out is None else held_out.rmse,
        held_out_median_error=None if held_out is None else held_out.median_error,
        monotone=fitted.monotone,
        params=tuple(fitted.params.tolist()),
        fitted=fitted,
    )


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def select_network(frame: pl.DataFrame, network: str) -> pl.DataFrame:
    """Return the rows of one network.

    Raises
    ------
    UsageError
        The frame has no such network; the message lists its networks, the closest first.
    """
    names = frame["network"].unique().sort().to_list()
    if network not in names:
        raise UsageError(
            f"expected a network of the view, found {network!r}; "
            f"choose one of {', '.join(closest_first(network, names)) or '(the view is empty)'}"
        )
    return frame.filter(pl.col("network") == network)
