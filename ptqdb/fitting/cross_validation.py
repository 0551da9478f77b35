"""How well a curve predicts what it was not fitted to: networks are left out, one at a time."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ptqdb.curves import Curve
from ptqdb.curves.points import Floats, Points
from ptqdb.errors import DataError

Names = NDArray[np.str_]
Folds = NDArray[np.intp]

# So many are left out one at a time; of more, several at a time. Fits with one or two folds left
# out are then at most 20 and 190, however many networks there are.
MOST_FOLDS = 20


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of points by curves that never saw their network.

    Attributes
    ----------
    y, predicted
        Shape (points,); `predicted` is NaN where the other networks do not carry the curve.
    """

    y: Floats
    predicted: Floats

    def where(self, mask: NDArray[np.bool_]) -> "HeldOut":
        """Those of the points where a mask of shape (points,) is true."""
        return HeldOut(self.y[mask], self.predicted[mask])

    @property
    def _is_told(self) -> bool:
        return len(self.y) > 0 and bool(np.isfinite(self.predicted).all())

    @property
    def r_squared(self) -> float | None:
        """1 - (sum of squared errors) / (sum of squares about the mean of these points).

        None where a point has no prediction, or all y are the same. Negative where the mean of
        the points, which nobody knows beforehand, would have been the better prediction.
        """
        spread = float(np.sum((self.y - self.y.mean()) ** 2)) if self._is_told else 0.0
        return 1.0 - float(np.sum((self.y - self.predicted) ** 2)) / spread if spread else None

    @property
    def rmse(self) -> float | None:
        """Root of the mean squared error, in the unit of y; None as above."""
        if not self._is_told:
            return None
        return float(np.sqrt(np.mean((self.y - self.predicted) ** 2)))

    @property
    def median_error(self) -> float | None:
        """Median of the absolute errors, in the unit of y; None as above."""
        return float(np.median(np.abs(self.y - self.predicted))) if self._is_told else None


def folds_of(units: Names) -> Folds:
    """Say which points are left out together: a number per fold, shape (points,).

    Up to `MOST_FOLDS` units are a fold each. More are dealt out to as many folds in the order of
    their names, so that neighbours, which are often kin, are in different folds.

    Parameters
    ----------
    units
        Shape (points,): names of what must not be split, such as the network.

    Examples
    --------
    >>> folds_of(np.array(["b", "a", "b"])).tolist()
    [1, 0, 1]
    """
    folds: Folds = np.unique(units, return_inverse=True)[1] % MOST_FOLDS
    return folds


def leave_out(points: Points, curve: Curve, folds: Folds) -> HeldOut:
    """Predict the points of each fold by the curve fitted to those of all the others.

    What a curve chooses from the points (a breakpoint, knots, smoothness) is chosen anew from
    the others' points; past their range the prediction is that of its end.

    Parameters
    ----------
    folds
        Shape (points,), as `folds_of` gives them.
    """
    predicted = np.full(len(points), np.nan)
    for fold in np.unique(folds):
        out = folds == fold
        predicted[out] = predict_left_out(points, curve, out)
    return HeldOut(points.y, predicted)


def predict_left_out(points: Points, curve: Curve, out: NDArray[np.bool_]) -> Floats:
    """Predict some of the points by the curve fitted to the others; NaN where these carry none.

    Parameters
    ----------
    out
        Shape (points,): those to predict.
    """
    rest, left = points.take(~out), points.take(out)
    try:
        fitted = curve.estimate(rest.x, rest.y, **rest.columns)
    except DataError:
        return np.full(len(left), np.nan)
    return fitted.predict(left.x, left.chance_loss)


@dataclass(frozen=True)
class Fold:
    """One unit (network, architecture) that was left out, alone or with others of its fold.

    Attributes
    ----------
    left_out, points
        Its name, and how many points it has.
    sse
        Sum of its squared errors, predicted by the curve fitted to all the others; None where
        these do not carry the curve.
    inner_r_squared
        Held-out R² among the other folds alone, as if this one did not exist: what a choice
        between curves may look at before it is judged on this unit. None as above, or of one
        other fold.
    """

    left_out: str
    points: int
    sse: float | None
    inner_r_squared: float | None


def nested_folds(points: Points, curve: Curve, units: Names, held_out: HeldOut) -> list[Fold]:
    """Each unit left out, and within the others each once more, fold by fold.

    Parameters
    ----------
    units
        Shape (points,).
    held_out
        As `leave_out` gives it for these units.
    """
    folds = folds_of(units)
    numbers = np.unique(folds).tolist()
    inner_sse = dict.fromkeys(numbers, 0.0 if len(numbers) > 2 else np.nan)
    for one, other in combinations(numbers, 2):
        out = (folds == one) | (folds == other)
        errors = np.full(len(points), np.nan)
        errors[out] = (points.y[out] - predict_left_out(points, curve, out)) ** 2
        inner_sse[one] += float(errors[folds == other].sum())
        inner_sse[other] += float(errors[folds == one].sum())
    inner_r_squared = {
        number: 1 - sse / spread if (spread := _spread(points.y[folds != number])) > 0 else np.nan
        for number, sse in inner_sse.items()
    }
    found = []
    for name in np.unique(units).tolist():
        out = units == name
        sse = float(np.sum((points.y[out] - held_out.predicted[out]) ** 2))
        inner = inner_r_squared[int(folds[out][0])]
        found.append(Fold(name, int(out.sum()), _finite(sse), _finite(inner)))
    return found


def _spread(y: Floats) -> float:
    """Sum of squares about the mean; 0 of no values."""
    return float(np.sum((y - y.mean()) ** 2)) if len(y) else 0.0


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
