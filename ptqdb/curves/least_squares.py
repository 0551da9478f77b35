"""Curves fitted by least squares in NumPy alone: statsmodels takes seconds to import."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptqdb.errors import DataError

Floats = NDArray[np.float64]


class CurveFunction(ABC):
    """A curve of one variable with parameters, and how they are found.

    x is of shape (points,), params of shape (parameters,).
    """

    @property
    @abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """One name per parameter, in the order of ``params``."""

    @abstractmethod
    def estimate(self, x: Floats, y: Floats) -> Floats:
        """Return the parameters of least squares, the same ones each time."""

    @abstractmethod
    def values(self, params: ArrayLike, x: Floats) -> Floats:
        """Return the curve's y at `x`, whatever their range; infinite at a pole."""

    @abstractmethod
    def jacobian(self, params: ArrayLike, x: Floats) -> Floats:
        """Return dy/dparams at `x`, shape (points, parameters)."""

    @abstractmethod
    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the curve is proved finite and non-decreasing on [low, high]."""


@dataclass(frozen=True, eq=False)
class CurveFit:
    """A curve with parameters beside the points that they were found for.

    Attributes
    ----------
    function
        The curve.
    x, y
        The points, shape (points,).
    params
        Shape (parameters,).
    """

    function: CurveFunction
    x: Floats
    y: Floats
    params: Floats

    @property
    def domain(self) -> tuple[float, float]:
        """The smallest and the largest x of the points."""
        return float(self.x.min()), float(self.x.max())

    @cached_property
    def fittedvalues(self) -> Floats:
        """The curve's y at the points."""
        return self.function.values(self.params, self.x)

    @cached_property
    def resid(self) -> Floats:
        """The points' y minus the curve's."""
        resid: Floats = self.y - self.fittedvalues
        return resid

    @cached_property
    def ssr(self) -> float:
        """Sum of the squared residuals."""
        return float(np.sum(self.resid**2))

    @cached_property
    def centered_tss(self) -> float:
        """Sum of squares of y about its mean."""
        return float(np.sum((self.y - self.y.mean()) ** 2))

    @property
    def rsquared(self) -> float:
        """1 - ssr / centered_tss."""
        return 1.0 - self.ssr / self.centered_tss

    @property
    def rmse(self) -> float:
        """Root of ssr / points, in the unit of y."""
        return float(np.sqrt(self.ssr / float(len(self.y))))

    @cached_property
    def monotone(self) -> bool:
        """Whether the curve is proved finite and non-decreasing from the least to the largest x."""
        return bool(self.function.is_monotone(self.params, *self.domain))

    def predict(self, x: ArrayLike) -> Floats:
        """Return the curve's y, shape (values,).

        Past the points' x the curve is proved nothing about and may have a pole: there the value
        at the nearest end is returned.
        """
        held = np.clip(np.asarray(x, dtype=np.float64).ravel(), *self.domain)
        return self.function.values(self.params, held)


def fit_curve(function: CurveFunction, x: ArrayLike, y: ArrayLike) -> CurveFit:
    """Fit a curve by least squares.

    Raises
    ------
    DataError
        As `checked_points`.
    """
    x, y = checked_points(x, y, len(function.parameter_names))
    return CurveFit(function, x, y, function.estimate(x, y))


def checked_points(x: ArrayLike, y: ArrayLike, parameter_count: int) -> tuple[Floats, Floats]:
    """Return x and y, shape (points,), if a curve can be fitted to them.

    Raises
    ------
    DataError
        `x` and `y` differ in length; a value is missing or infinite; there are fewer points
        than parameters; x, or y, is the same everywhere.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.size != y.size or y.ndim > 2 or max(x.shape, default=1) != x.size:
        raise DataError(
            f"expected one x per y, found shapes {x.shape} and {y.shape}; pass two columns"
        )
    bad = int(np.sum(~(np.isfinite(x.ravel()) & np.isfinite(y.ravel()))))
    if bad:
        raise DataError(
            f"expected finite x and y, found {bad} of {y.size} points missing or infinite; "
            "leave those points out"
        )
    if y.size < parameter_count:
        raise DataError(
            f"expected at least {parameter_count} points, one per parameter, found {y.size}; "
            "add points or choose a curve of fewer parameters"
        )
    for name, values in (("x", x), ("y", y)):
        if values.min() == values.max():
            raise DataError(
                f"expected {name} to vary, found {name} = {float(values.flat[0]):g} at all "
                f"{y.size} points; a curve cannot be told from them"
            )
    return x.ravel(), y.ravel()
