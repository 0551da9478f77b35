"""Isotonic regression: the least squares over all non-decreasing functions."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from ptqdb.curves.function import CurveFunction
from ptqdb.curves.points import Floats, Places, Points
from ptqdb.errors import UsageError


@dataclass(frozen=True)
class IsotonicFunction(CurveFunction):
    """Isotonic regression, the upper bound for any monotone curve: none has a higher R².

    Attributes
    ----------
    knots
        The distinct x of the points, ascending; `prepared` finds them. ``params`` holds the level
        at each knot. The curve is linear between knots and constant beyond them.

    Notes
    -----
    The points determine the levels at their own x only; linear interpolation between them is a
    convention. A refit to points with other x, as in a bootstrap over networks, is evaluated at the
    original knots.

    There is no Jacobian, and no standard error from points of one network: each level is the mean
    of a block whose extent depends on the data, so linearization is wrong (the estimate converges
    like the cube root of the number of points and is not normal; Wright, 1981). The degrees of
    freedom are the number of distinct levels (Meyer and Woodroofe, 2000).
    """

    knots: tuple[float, ...] = ()

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """level0, level1, ...: one per knot."""
        return tuple(f"level{i}" for i in range(len(self.knots)))

    @property
    def least_point_count(self) -> int:
        """Two: checked points have at least two distinct x, hence two levels."""
        return 2

    def prepared(self, points: Points) -> Self:
        """The curve with the distinct x of the points as its knots."""
        return replace(self, knots=tuple(np.unique(points.x).tolist()))

    def estimate(self, points: Points) -> Floats:
        """Return the level at each knot, by the exact pool-adjacent-violators algorithm.

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

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at any `x`."""
        x = places.x
        y: Floats = np.interp(x, self.knots, np.asarray(params, dtype=np.float64))
        return y

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the levels are finite and sorted: the curve is then non-decreasing."""
        levels = np.asarray(params, dtype=np.float64)
        return bool(np.all(np.isfinite(levels)) and np.all(np.diff(levels) >= 0))

    def parameter_count(self, params: Floats, points: Points) -> float:
        """How many distinct levels there are."""
        return float(1 + np.count_nonzero(np.diff(params) > 0))
