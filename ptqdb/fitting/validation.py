"""Validates predictions and intervals: leaves out each network in turn and predicts it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ptqdb.curves import Curve
from ptqdb.curves import curve as curve_by_name
from ptqdb.curves.points import Floats, Points
from ptqdb.defaults import COVERAGE
from ptqdb.errors import DataError
from ptqdb.fitting.cross_validation import HeldOut, assign_folds
from ptqdb.fitting.intervals import LossPredictor, Prediction, interval_score
from ptqdb.fitting.view_fit import ALL, finite_rows, group_names, unit_names, view_points

LOSSLESS = 0.05
BANDS = ("near lossless", "middle", "collapsed")


@dataclass(frozen=True)
class ValidationRow:
    """Figures of predictions of points whose network (or architecture) was left out.

    Losses, errors and widths are fractions of the float accuracy. Undefined figures, such as a
    correlation of one point, are None.

    Attributes
    ----------
    kind, group
        ``all`` and ``ALL``; ``network`` or ``architecture`` and its name; ``band`` and one of
        `BANDS`, by the measured loss: below 5 %, between, not significantly above chance.
    weight
        Sum of the points' weights: near-duplicate formats of a network, such as POT_5 to POT_8,
        count as one (`ptqdb.fitting.near_duplicates`). All figures but the rank correlations are
        weighted.
    coverage, mean_width, interval_score
        Of the intervals: the share that contains the measured loss; mean width; mean of
        `ptqdb.fitting.intervals.interval_score`.
    bias, rmse, median_error
        Mean of (predicted - measured); root of the mean square; median of the absolute values.
    rank_correlation
        Spearman's, of predicted and measured losses.
    lossless_points, lossless_rank_correlation
        Number of points that lose less than 5 %, and the same correlation among them.
    """

    kind: str
    group: str
    points: int
    weight: float
    coverage: float
    mean_width: float
    interval_score: float
    bias: float
    rmse: float | None
    median_error: float | None
    rank_correlation: float | None
    lossless_points: int
    lossless_rank_correlation: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return what is printed."""
        return asdict(self)


def validate_view_frame(
    frame: pl.DataFrame, *, curve: str, leave_out: str = "network", coverage: float = COVERAGE
) -> list[ValidationRow]:
    """Leave out each network in turn, predict it from the others, and judge the intervals.

    No part of a prediction uses the network: the curve, its choices from the points (such as
    knots), and the held-out errors behind the intervals come from the other networks only.

    Parameters
    ----------
    frame
        The rows of a view.
    curve
        A curve's name.
    leave_out
        ``network`` or ``architecture``.
    coverage
        The nominal coverage of the intervals.

    Returns
    -------
    Rows for all points, for each network, and for each band of loss that has points.

    Raises
    ------
    DataError
        Fewer than three networks, or too few points.
    UsageError
        No such curve.
    """
    chosen = curve_by_name(curve)
    frame = finite_rows(frame)
    points, units = view_points(frame), unit_names(frame, leave_out)
    predicted = predict_each_left_out(points, chosen, units, coverage, leave_out)
    rows = []
    for kind, group, members in _groups(frame, points, leave_out):
        if members.any():
            rows.append(_row(kind, group, points.take(members), _of(predicted, members), coverage))
    return rows


def predict_each_left_out(
    points: Points,
    curve: Curve,
    units: NDArray[np.str_],
    coverage: float = COVERAGE,
    leave_out: str = "network",
) -> Prediction:
    """Predict the points of each unit from the other units only.

    Parameters
    ----------
    units
        Shape (points,): the unit of each point (of more than 20, several are left out at a time).
    leave_out
        The kind of unit, for the message.

    Raises
    ------
    DataError
        Fewer than three units, or too few points in the others to fit the curve.
    """
    if len(np.unique(units)) < 3:
        raise DataError(
            f"expected three or more {leave_out}s, each predicted from two or more others, "
            f"found {len(np.unique(units))}: collect more networks"
        )
    loss, lower, upper = (np.empty(len(points)) for _ in range(3))
    folds = assign_folds(units)
    for fold in np.unique(folds):
        out = folds == fold
        predictor = LossPredictor.of(points.take(~out), curve, units[~out], folds[~out])
        left = points.take(out)
        found = predictor.predict(left.x, left.chance_loss, coverage=coverage)
        loss[out], lower[out], upper[out] = found.loss, found.lower, found.upper
    return Prediction(loss, lower, upper)


def _of(predicted: Prediction, members: NDArray[np.bool_]) -> Prediction:
    return Prediction(predicted.loss[members], predicted.lower[members], predicted.upper[members])


def _groups(
    frame: pl.DataFrame, points: Points, leave_out: str
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield kind, name and members of each row's group."""
    yield "all", ALL, np.full(len(points), True)
    units = group_names(frame[leave_out])
    for name in np.unique(units).tolist():
        yield leave_out, name, units == name
    lossless = points.y < LOSSLESS
    collapsed = frame["saturated"].to_numpy() & ~lossless
    for band, members in zip(BANDS, (lossless, ~lossless & ~collapsed, collapsed), strict=True):
        yield "band", band, members


def _row(
    kind: str, group: str, points: Points, predicted: Prediction, coverage: float
) -> ValidationRow:
    y, weights = points.y, points.weights
    errors, lossless = HeldOut(y, predicted.loss, weights), y < LOSSLESS
    score = interval_score(y, predicted.lower, predicted.upper, coverage)

    def mean(values: Floats | NDArray[np.bool_]) -> float:
        return float(np.average(values, weights=weights))

    return ValidationRow(
        kind=kind,
        group=group,
        points=len(y),
        weight=float(weights.sum()),
        coverage=mean((predicted.lower <= y) & (y <= predicted.upper)),
        mean_width=mean(predicted.upper - predicted.lower),
        interval_score=mean(score),
        bias=mean(predicted.loss - y),
        rmse=errors.rmse,
        median_error=errors.median_error,
        rank_correlation=rank_correlation(predicted.loss, y),
        lossless_points=int(lossless.sum()),
        lossless_rank_correlation=rank_correlation(predicted.loss[lossless], y[lossless]),
    )


def rank_correlation(one: Floats, other: Floats) -> float | None:
    """Return Spearman's rank correlation, with mean ranks for ties; None if one is constant.

    Examples
    --------
    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 9.0]))
    1.0
    """
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    from scipy.stats import spearmanr

    return float(np.round(spearmanr(one, other).statistic, 12))
