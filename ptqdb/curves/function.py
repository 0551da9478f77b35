"""Base class of curves, and fitted curves, in NumPy only: statsmodels takes seconds to import."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ptqdb.curves.points import Floats, Places, Points, checked_points

# Relative to the largest singular value of the Jacobian with unit-norm columns.
SINGULAR = 1e-10
# Cached fits, a few kilobytes each for 43 points per network: enough for a page of all charts.
REMEMBERED_FITS = 1024


@dataclass(frozen=True)
class CurveFunction(ABC):
    """A parametric curve of one variable, and how its parameters are estimated.

    Subclasses are frozen dataclasses with plain values as fields, including those that `prepared`
    chose, so a fit can be saved and loaded. x has shape (points,), params has shape (parameters,).

    Attributes
    ----------
    needs
        The columns of `Points` that it needs besides x and y.
    uses_chance_loss
        Whether its y depends on the `chance_loss` of the network, which a prediction must give.
    models_networks
        Whether `covariance` accounts for the dependence of points of one network; if so, no
        bootstrap over networks replaces it.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    uses_chance_loss: ClassVar[bool] = False
    models_networks: ClassVar[bool] = False

    @property
    @abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """One name per parameter, in the order of ``params``."""

    @property
    def starts_at_zero(self) -> bool:
        """Whether y is 0 at x = 0 and below: the curve then holds from 0 on, not from a point."""
        return False

    @property
    def least_point_count(self) -> int:
        """The fewest points that the curve can be fitted to; by default one per parameter."""
        return len(self.parameter_names)

    def prepared(self, points: Points) -> Self:
        """Return the curve with settings chosen from the points before the fit, such as knots."""
        return self

    @abstractmethod
    def estimate(self, points: Points) -> Floats:
        """Return the parameters that fit best; deterministic.

        Raises
        ------
        DataError
            The points cannot determine the curve.
        """

    @abstractmethod
    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at any x, shape (values,); infinite at a pole."""

    def jacobian(self, params: ArrayLike, places: Places) -> Floats | None:
        """Return dy/dparams, shape (values, parameters); None if it does not exist."""
        return None

    def domain(self, x: Floats) -> tuple[float, float]:
        """Return where the curve holds: from the smallest of the points' `x` to the largest.

        From 0, if that is smaller, for a curve that `starts_at_zero`.
        """
        low, high = float(x.min()), float(x.max())
        return (min(low, 0.0) if self.starts_at_zero else low), high

    @abstractmethod
    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the curve is proven finite and non-decreasing on [low, high]."""

    def parameter_count(self, params: Floats, points: Points) -> float:
        """Degrees of freedom used by the fit to `points`; by default the number of parameters."""
        return float(len(params))

    def log_likelihood(self, params: Floats, points: Points) -> float:
        """Gaussian, with the variance ssr / points that maximizes it (as in OLS); NaN if none."""
        ssr = float(np.sum((points.y - self.values(params, points.places)) ** 2))
        with np.errstate(divide="ignore"):
            return float(-len(points) / 2 * (np.log(2 * np.pi * np.float64(ssr) / len(points)) + 1))

    def covariance(self, params: Floats, points: Points) -> Floats:
        """Covariance of the estimate for independent points; NaN where it is undefined.

        By default ``s² inverse(J'J)``, with the Jacobian J at the estimate and the residual
        variance s². NaN where J is singular (as for a constant, where the estimate has fewer
        degrees of freedom than parameters), and where no residual degree of freedom is left. It
        ignores the monotone constraint: where that is active, the covariance is too large.
        """
        jacobian = self.jacobian(params, points.places)
        rest = len(points) - self.parameter_count(params, points)
        if jacobian is None or rest <= 0:
            return np.full((len(params), len(params)), np.nan)
        residuals = points.y - self.values(params, points.places)
        return float(np.sum(residuals**2)) / rest * inverse_gram(jacobian)


@dataclass(frozen=True, eq=False)
class FixedCurve:
    """A curve with its parameters, without the points that it was fitted to.

    Attributes
    ----------
    function
        The curve, prepared for the points that it was fitted to.
    params
        Shape (parameters,).
    low, high
        The range on which it holds, as `CurveFunction.domain` gives it.
    """

    function: CurveFunction
    params: Floats
    low: float
    high: float

    def predict(self, x: ArrayLike, chance_loss: ArrayLike | None = None) -> Floats:
        """Return the curve's y, shape (values,).

        Outside its range nothing is proved about the curve, and it may have a pole: there the value
        at the nearest end is returned.

        Parameters
        ----------
        chance_loss
            Of the networks at `x`: shape (values,) or (); for curves that use it.
        """
        held = np.clip(np.asarray(x, dtype=np.float64).ravel(), self.low, self.high)
        return self.function.values(self.params, Places.of(held, chance_loss))


@dataclass(frozen=True, eq=False)
class CurveFit:
    """A curve with its parameters and the points that it was fitted to.

    Attributes
    ----------
    function
        The curve, prepared for these points.
    points
        The fitted points.
    params
        Shape (parameters,).
    """

    function: CurveFunction
    points: Points
    params: Floats

    @property
    def x(self) -> Floats:
        """The points' x."""
        return self.points.x

    @property
    def y(self) -> Floats:
        """The points' y."""
        return self.points.y

    @property
    def domain(self) -> tuple[float, float]:
        """The range on which the curve holds; see `CurveFunction.domain`."""
        return self.function.domain(self.x)

    @cached_property
    def fittedvalues(self) -> Floats:
        """The curve's y at the points."""
        return self.function.values(self.params, self.points.places)

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

    @cached_property
    def df_model(self) -> float:
        """Degrees of freedom used, not counting the constant."""
        return self.function.parameter_count(self.params, self.points) - 1.0

    @property
    def df_resid(self) -> float:
        """Points minus the degrees of freedom used."""
        return len(self.points) - self.df_model - 1.0

    @property
    def rsquared_adj(self) -> float:
        """`rsquared` adjusted for the degrees of freedom; NaN if none is left."""
        if self.df_resid <= 0:
            return float("nan")
        return 1.0 - (len(self.points) - 1.0) / self.df_resid * (1.0 - self.rsquared)

    @property
    def rmse(self) -> float:
        """sqrt(ssr / points), in the unit of y."""
        return float(np.sqrt(self.ssr / float(len(self.points))))

    @cached_property
    def llf(self) -> float:
        """Log-likelihood; NaN if the curve has none."""
        return self.function.log_likelihood(self.params, self.points)

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 parameters (as in OLS, without the variance)."""
        return float(-2.0 * self.llf + 2.0 * (self.df_model + 1.0))

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + log(points) parameters."""
        return float(-2.0 * self.llf + np.log(len(self.points)) * (self.df_model + 1.0))

    @cached_property
    def monotone(self) -> bool:
        """Whether the curve is proven finite and non-decreasing on the range of the points' x."""
        return bool(self.function.is_monotone(self.params, *self.domain))

    @property
    def fixed(self) -> FixedCurve:
        """The curve without its points."""
        return FixedCurve(self.function, self.params, *self.domain)

    def predict(self, x: ArrayLike, chance_loss: ArrayLike | None = None) -> Floats:
        """Return the curve's y, shape (values,), as `FixedCurve.predict` does."""
        return self.fixed.predict(x, chance_loss)


def fit_curve(
    function: CurveFunction, x: ArrayLike, y: ArrayLike, **columns: ArrayLike
) -> CurveFit:
    """Fit a curve; recent fits are cached.

    Leave-two-out validation requests each fit twice, and a page of charts some fits many times. An
    estimate depends only on curve and points, so the last ones are cached with copies of the
    points.

    Parameters
    ----------
    x, y
        Shape (points,) or (points, 1).
    **columns
        Further columns of `Points`; those that the curve does not need are kept, too.

    Raises
    ------
    DataError
        As `checked_points`; or a column that the curve needs is missing.
    """
    points = checked_points(x, y, function.least_point_count, columns)
    points.require(function.needs)
    return _estimated(_Asked(function, points))


class _Asked:
    """A cache key: a curve and points, compared bit by bit."""

    def __init__(self, function: CurveFunction, points: Points) -> None:
        self.function, self.points = function, points
        columns = {"x": points.x, "y": points.y, **points.columns}
        held = tuple((name, v.dtype.str, v.tobytes()) for name, v in columns.items())
        self.key: tuple[Any, ...] = (function, held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=REMEMBERED_FITS)
def _estimated(asked: _Asked) -> CurveFit:
    points = asked.points.read_only_copy()
    function = asked.function.prepared(points)
    params = function.estimate(points)
    params.setflags(write=False)
    return CurveFit(function, points, params)


def inverse_gram(jacobian: Floats) -> Floats:
    """inverse(J'J), or NaN throughout where J is singular to working precision."""
    count = jacobian.shape[1]
    lengths = np.sqrt(np.sum(jacobian**2, axis=0))
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        return np.full((count, count), np.nan)
    _, singular, rotation = np.linalg.svd(jacobian / lengths, full_matrices=False)
    if singular[-1] <= SINGULAR * singular[0]:
        return np.full((count, count), np.nan)
    inverse: Floats = (rotation.T / singular**2) @ rotation / np.outer(lengths, lengths)
    return inverse
