"""Cross-validation of curves: networks are left out one at a time and predicted."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ptqdb.curves import Curve
from ptqdb.curves.points import Floats, Points
from ptqdb.errors import DataError
from ptqdb.fitting.near_duplicates import weighted_median

Names = NDArray[np.str_]
Folds = NDArray[np.intp]

# Up to this many units are left out one at a time; above, several at a time. So at most 20 fits
# have one fold left out, and 190 two, whatever the number of networks.
MOST_FOLDS = 20


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of points by curves fitted without their network.

    Attributes
    ----------
    y, predicted
        Shape (points,); `predicted` is NaN if the other networks are too few to fit the curve.
    weights
        Shape (points,), positive: how much each point counts in the figures.
    """

    y: Floats
    predicted: Floats
    weights: Floats

    def where(self, mask: NDArray[np.bool_]) -> "HeldOut":
        """Select points by a mask of shape (points,)."""
        return HeldOut(self.y[mask], self.predicted[mask], self.weights[mask])

    @property
    def _is_told(self) -> bool:
        return len(self.y) > 0 and bool(np.isfinite(self.predicted).all())

    @property
    def r_squared(self) -> float | None:
        """1 - (sum of squared errors) / (sum of squares about the mean of these points), weighted.

        None if a point has no prediction, or all y are equal. Negative if the mean of the points
        (unknown beforehand) would have predicted better.
        """
        spread = sum_of_squares(self.y, self.weights) if self._is_told else 0.0
        if not spread:
            return None
        return 1.0 - float(np.sum(self.weights * (self.y - self.predicted) ** 2)) / spread

    @property
    def rmse(self) -> float | None:
        """Root of the weighted mean squared error, in the unit of y; None as above."""
        if not self._is_told:
            return None
        return float(np.sqrt(np.average((self.y - self.predicted) ** 2, weights=self.weights)))

    @property
    def median_error(self) -> float | None:
        """Weighted median of the absolute errors, in the unit of y; None as above."""
        if not self._is_told:
            return None
        return weighted_median(np.abs(self.y - self.predicted), self.weights)


def assign_folds(units: Names) -> Folds:
    """Return the number of each point's fold, shape (points,).

    Up to `MOST_FOLDS` units get a fold each. More units are assigned to the folds in turn by
    name, so that neighbours, which are often related, are in different folds.

    Parameters
    ----------
    units
        Shape (points,): names of units that must not be split, such as networks.

    Examples
    --------
    >>> assign_folds(np.array(["b", "a", "b"])).tolist()
    [1, 0, 1]
    """
    folds: Folds = np.unique(units, return_inverse=True)[1] % MOST_FOLDS
    return folds


def leave_out(points: Points, curve: Curve, folds: Folds) -> HeldOut:
    """Predict the points of each fold by the curve fitted to all other folds.

    Anything a curve chooses from its points (breakpoint, knots, smoothness) is chosen again from
    the other folds. Outside their range, the prediction is that at the end of the range.

    Parameters
    ----------
    folds
        Shape (points,), as returned by `assign_folds`.
    """
    predicted = np.full(len(points), np.nan)
    for fold in np.unique(folds):
        out = folds == fold
        predicted[out] = predict_left_out(points, curve, out)
    return HeldOut(points.y, predicted, points.weights)


def predict_left_out(points: Points, curve: Curve, out: NDArray[np.bool_]) -> Floats:
    """Predict some points by the curve fitted to the others; NaN if these are too few.

    Parameters
    ----------
    out
        Shape (points,): the points to predict.
    """
    rest, left = points.take(~out), points.take(out)
    try:
        fitted = curve.estimate(rest.x, rest.y, **rest.columns)
    except DataError:
        return np.full(len(left), np.nan)
    return fitted.predict(left.x, left.chance_loss)


@dataclass(frozen=True)
class Fold:
    """A unit (network, architecture) that was left out, alone or with others of its fold.

    Attributes
    ----------
    left_out, points
        Its name and number of points.
    sse
        Weighted sum of its squared errors (the weights of all points have the mean 1), predicted by
        the curve fitted to the other folds; None if these are too few to fit the curve.
    inner_r_squared
        Held-out R² among the other folds only, as if this one did not exist. A choice between
        curves may use it before the choice is judged on this unit. None as above, or with only
        one other fold.
    """

    left_out: str
    points: int
    sse: float | None
    inner_r_squared: float | None


def nested_folds(points: Points, curve: Curve, units: Names, held_out: HeldOut) -> list[Fold]:
    """Run nested cross-validation: leave out each fold, then each other fold within the rest.

    Parameters
    ----------
    units
        Shape (points,).
    held_out
        As returned by `leave_out` for these units.
    """
    folds, weights = assign_folds(units), relative_weights(points.weights)
    numbers = np.unique(folds).tolist()
    inner_sse = dict.fromkeys(numbers, 0.0 if len(numbers) > 2 else np.nan)
    for one, other in combinations(numbers, 2):
        out = (folds == one) | (folds == other)
        errors = np.full(len(points), np.nan)
        errors[out] = points.y[out] - predict_left_out(points, curve, out)
        errors = weights * errors**2
        inner_sse[one] += float(errors[folds == other].sum())
        inner_sse[other] += float(errors[folds == one].sum())
    inner_r_squared = {
        number: 1 - sse / spread
        if (spread := sum_of_squares(points.y[folds != number], weights[folds != number])) > 0
        else np.nan
        for number, sse in inner_sse.items()
    }
    found = []
    for name in np.unique(units).tolist():
        out = units == name
        sse = float(np.sum(weights[out] * (points.y[out] - held_out.predicted[out]) ** 2))
        inner = inner_r_squared[int(folds[out][0])]
        found.append(Fold(name, int(out.sum()), _finite(sse), _finite(inner)))
    return found


def sum_of_squares(y: Floats, weights: Floats) -> float:
    """Weighted sum of the squares of y about its weighted mean; 0 without values."""
    if not len(y):
        return 0.0
    return float(np.sum(weights * (y - np.average(y, weights=weights)) ** 2))


def relative_weights(weights: Floats) -> Floats:
    """Return the weights scaled to a mean of 1, so that weighted sums compare with counts."""
    scaled: Floats = weights / weights.mean()
    return scaled


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
