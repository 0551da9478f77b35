"""How well a curve predicts what it was not fitted to: networks are left out, one at a time."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ptqdb.curves import Curve
from ptqdb.curves.points import Floats, Points
from ptqdb.errors import DataError

Names = NDArray[np.str_]


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


def leave_out(points: Points, curve: Curve, units: Names) -> HeldOut:
    """Predict the points of each unit by the curve fitted to those of all the others.

    What a curve chooses from the points (a breakpoint, knots, smoothness) is chosen anew from
    the others' points; past their range the prediction is that of its end.

    Parameters
    ----------
    units
        Shape (points,): what is left out at a time, such as the network or its architecture.
    """
    predicted = np.full(len(points), np.nan)
    for unit in np.unique(units):
        out = units == unit
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
    """One unit (network, architecture) that was left out.

    Attributes
    ----------
    left_out, points
        Its name, and how many points it has.
    sse
        Sum of its squared errors, predicted by the curve fitted to all the others; None where
        these do not carry the curve.
    inner_r_squared
        Held-out R² among the others alone, as if this unit did not exist: what a choice between
        curves may look at before it is judged on this unit. None as above, or of one other.
    """

    left_out: str
    points: int
    sse: float | None
    inner_r_squared: float | None


def nested_folds(points: Points, curve: Curve, units: Names, held_out: HeldOut) -> list[Fold]:
    """Each unit left out, and within the others each once more.

    Parameters
    ----------
    units
        Shape (points,).
    held_out
        As `leave_out` gives it for these units.
    """
    names = np.unique(units).tolist()
    inner: dict[str, dict[str, float]] = {name: {} for name in names}
    for one, other in combinations(names, 2):
        out = (units == one) | (units == other)
        errors = np.full(len(points), np.nan)
        errors[out] = (points.y[out] - predict_left_out(points, curve, out)) ** 2
        inner[one][other] = float(errors[units == other].sum())
        inner[other][one] = float(errors[units == one].sum())
    folds = []
    for name in names:
        out, rest = units == name, points.y[units != name]
        sse = float(np.sum((points.y[out] - held_out.predicted[out]) ** 2))
        spread = float(np.sum((rest - rest.mean()) ** 2)) if len(rest) else 0.0
        inner_sse = sum(inner[name].values()) if len(names) > 2 else np.nan
        inner_r_squared = 1 - inner_sse / spread if spread > 0 else np.nan
        folds.append(Fold(name, int(out.sum()), _finite(sse), _finite(inner_r_squared)))
    return folds


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
