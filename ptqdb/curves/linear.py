"""A straight line over log x: the simplest curve."""

import sys
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ptqdb.curves.function import CurveFunction
from ptqdb.curves.points import Floats, Places, Points
from ptqdb.errors import DataError


@dataclass(frozen=True)
class LinearFunction(CurveFunction):
    """y = const + log_x * log(x), by ordinary least squares; it may decrease.

    Attributes
    ----------
    floor
        Positive lower limit of x, so that x = 0 has a logarithm. `prepared` takes the smallest
        positive x of the points.
    """

    floor: float = sys.float_info.min

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Const and log_x, the slope over the natural logarithm of x."""
        return ("const", "log_x")

    def prepared(self, points: Points) -> Self:
        """The line with `floor` of these points.

        Raises
        ------
        DataError
            There are fewer than two different positive x.
        """
        positive = np.unique(points.x[points.x > 0])
        if len(positive) < 2:
            raise DataError(
                f"expected two different positive x, found {len(positive)} among {len(points)} "
                "points; too few to fit a line over log x"
            )
        return replace(self, floor=float(positive[0]))

    def estimate(self, points: Points) -> Floats:
        """Return the least squares.

        Raises
        ------
        DataError
            All x are at most `floor`, or equal.
        """
        design = self.design(points.x)
        if design[:, 1].min() == design[:, 1].max():
            raise DataError(
                f"expected log x to vary, found x = {np.exp(design[0, 1]):g} or less at all "
                f"{len(points)} points; a line over log x cannot be fitted"
            )
        return np.asarray(np.linalg.lstsq(design, points.y, rcond=None)[0], dtype=np.float64)

    def design(self, x: Floats) -> Floats:
        """A column of ones and log x, shape (points, 2)."""
        return np.column_stack([np.ones_like(x), np.log(np.maximum(x, self.floor))])

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the line's y at `x`, shape (points,)."""
        x = places.x
        y: Floats = self.design(x) @ np.asarray(params, dtype=np.float64)[:2]
        return y

    def jacobian(self, params: ArrayLike, places: Places) -> Floats:
        """Return dy/dparams at `x`, shape (points, parameters)."""
        x = places.x
        beside = len(self.parameter_names) - 2
        return np.pad(self.design(x), ((0, 0), (0, beside)))

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the parameters are finite and the slope is not negative."""
        params = np.asarray(params, dtype=np.float64)
        return bool(np.all(np.isfinite(params)) and params[1] >= 0)
