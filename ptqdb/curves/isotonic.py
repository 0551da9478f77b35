"""Isotonic regression: the least squares over all non-decreasing functions."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from ptqdb.curves.function import CurveFunction
from ptqdb.curves.points import Floats, Points
from ptqdb.errors import UsageError


@dataclass(frozen=True)
class IsotonicFunction(CurveFunction):
    """The best of all non-decreasing functions: no monotone curve has a higher R² on its points.

    Attributes
    ----------
    knots
        The distinct x of the points, ascending; `prepared` finds them. ``params`` is the level
        at each. Between knots the curve is linear, past the last ones constant.

    Notes
    -----
    The points fix the levels at their own x only: the line between two of them is a choice.
    Refitted to points with other x, as a bootstrap over networks does, the levels are read at
    the knots off the curve through those points.

    There is no Jacobian and from points of one network no standard error: a level is the mean of
    a block of points whose extent was chosen by looking at them, so that linearization is wrong
    (the estimate converges like the cube root of the number of points and is not normal; Wright,
    1981). The degrees of freedom spent are the number of distinct levels (Meyer and Woodroofe,
    2000).
    """

    knots: tuple[float, ...] = ()

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """level0, level1, ...: one per knot."""
        return tuple(f"level{i}" for i in range(len(self.knots)))

    @property
    def least_point_count(self) -> int:
        """Two: checked points have two distinct x, and two levels can tell them apart."""
        return 2

    def prepared(self, points: Points) -> Self:
        """The curve with the distinct x of the points as its knots."""
        return replace(self, knots=tuple(np.unique(points.x).tolist()))

    def estimate(self, points: Points) -> Floats:
        """Return the level at each knot, by pool adjacent violators; exact.

        Raises
        ------
        UsageError
            The curve has no knots yet.
        """
        if not self.knots:
            raise UsageError(
                "expected an isotonic curve with knots, found one without; call prepared(points)"
            )
        x, where = np.unique(points.x, return_inverse=True)
        counts = np.bincount(where)
        means = np.bincount(where, weights=points.y) / counts
        levels = isotonic_regression(means, weights=counts).x
        params: Floats = np.interp(self.knots, x, levels)
        return params

    def values(
        self, params: ArrayLike, x: Floats, chance_loss: Floats | float | None = None
    ) -> Floats:
        """Return the curve's y at `x`, whatever their range."""
        y: Floats = np.interp(x, self.knots, np.asarray(params, dtype=np.float64))
        return y

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the levels are finite and sorted: then so is every line between them."""
        levels = np.asarray(params, dtype=np.float64)
        return bool(np.all(np.isfinite(levels)) and np.all(np.diff(levels) >= 0))

    def parameter_count(self, params: Floats, points: Points) -> float:
        """How many distinct levels there are."""
        return float(1 + np.count_nonzero(np.diff(params) > 0))
