"""A rational curve up to a breakpoint, constant past it, where accuracy is at chance level."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval
from numpy.typing import ArrayLike

from ptqdb.curves.function import CurveFit, CurveFunction, fit_curve, inverse_gram
from ptqdb.curves.isotonic import IsotonicFunction
from ptqdb.curves.points import Floats, Places, Points
from ptqdb.curves.rational import RationalFunction
from ptqdb.errors import DataError, UsageError

RATIONAL = RationalFunction(2)
# Breakpoints of the first, coarse search, evenly spaced over the candidates; up to twice as many
# more are tried between them.
COARSE_COUNT = 8


@dataclass(frozen=True)
class SegmentedFunction(CurveFunction):
    """A `RationalFunction` of degree 2 up to a breakpoint, and its value there past it.

    ``params`` is a0, a1, a2, b1, b2 of the rational curve and, where it is estimated, the
    breakpoint.

    Attributes
    ----------
    breakpoint
        x from which the curve is constant; None to estimate it.

    Raises
    ------
    UsageError
        A breakpoint that is not finite.

    Notes
    -----
    The curve is the rational one at min(x, breakpoint), so the best fit for a given breakpoint is
    the rational fit to the points with capped x. Estimated breakpoints are searched among the
    distinct x of the points: between two of them the fit hardly changes. Isotonic regression of the
    capped points bounds what a breakpoint can reach; those that cannot beat the best so far are
    skipped. The rest are tried coarsely, then near the best. On each network of the published
    sweeps this local search comes within 0.001 of the R² of an exhaustive search, with 17 rational
    fits at most. The largest x is tried first, so the fit is never worse than the rational one; if
    it wins, the points show no breakpoint.

    The standard error of an estimated breakpoint is the linearized one, as if it lay inside a gap
    between two x (Muggeo, 2003): that of the level past it over the slope before it. It grows as
    the curve flattens before the breakpoint. It is NaN if the breakpoint is not identified: the
    curve is flat before it, or no point lies past it.
    """

    breakpoint: float | None = None

    def __post_init__(self) -> None:
        if self.breakpoint is not None and not np.isfinite(self.breakpoint):
            raise UsageError(
                f"expected a finite breakpoint, found {self.breakpoint!r}; "
                "leave it out to estimate it"
            )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """a0, a1, a2, b1, b2 and, unless it is given, the breakpoint."""
        return (*RATIONAL.parameter_names, *(["breakpoint"] if self.breakpoint is None else []))

    def estimate(self, points: Points) -> Floats:
        """Return the least squares among the curves tried and proven non-decreasing.

        Raises
        ------
        DataError
            No point lies below the given breakpoint.
        """
        if self.breakpoint is None:
            return _search(points)
        if self.breakpoint <= points.x.min():
            raise DataError(
                f"expected a breakpoint above the smallest x, {points.x.min():g}, found "
                f"{self.breakpoint:g}; give a larger one, or none to estimate it"
            )
        return RATIONAL.estimate(replace(points, x=np.minimum(points.x, self.breakpoint)))

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at any `x`; infinite at a pole."""
        x = places.x
        rational, cap = self._split(params)
        return RATIONAL.values(rational, Places(np.minimum(x, cap)))

    def jacobian(self, params: ArrayLike, places: Places) -> Floats:
        """Return dy/dparams at `x`, shape (points, parameters).

        The derivative by an estimated breakpoint is the slope there for x past it, and 0 up to it.
        """
        x = places.x
        rational, cap = self._split(params)
        with np.errstate(all="ignore"):
            by_rational = RATIONAL.jacobian(rational, Places(np.minimum(x, cap)))
            if self.breakpoint is not None:
                return by_rational
            by_breakpoint = np.where(x > cap, _slope(rational, cap), 0.0)
        return np.column_stack([by_rational, by_breakpoint])

    def covariance(self, params: Floats, points: Points) -> Floats:
        """As for every curve; NaN for a breakpoint that the points do not identify."""
        covariance = super().covariance(params, points)
        rest = len(points) - self.parameter_count(params, points)
        if self.breakpoint is None and np.isnan(covariance).all() and rest > 0:
            residuals = points.y - self.values(params, points.places)
            jacobian = self.jacobian(params, points.places)[:, :-1]
            covariance[:-1, :-1] = float(np.sum(residuals**2)) / rest * inverse_gram(jacobian)
        return covariance

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the curve is proven non-decreasing and free of poles on [low, high]."""
        rational, cap = self._split(params)
        if not np.all(np.isfinite([*rational, cap])):
            return False
        if low < cap:
            return RATIONAL.is_monotone(rational, low, min(high, cap))
        # The curve is constant, and finite if its denominator is not 0 in exact arithmetic.
        exact = [Fraction(b) for b in (1.0, *rational[3:].tolist())]
        return sum(b * Fraction(cap) ** i for i, b in enumerate(exact)) != 0

    def _split(self, params: ArrayLike) -> tuple[Floats, float]:
        """Return the rational curve's parameters, and the breakpoint at which x is capped."""
        params = np.asarray(params, dtype=np.float64)
        if self.breakpoint is not None:
            return params, self.breakpoint
        return params[:-1], float(params[-1])


def _slope(rational: Floats, x: float) -> float:
    """The slope of a rational curve of degree 2."""
    p, q = rational[:3], np.concatenate(([1.0], rational[3:]))
    above, below = polyval(x, p), polyval(x, q)
    return float((polyval(x, polyder(p)) * below - above * polyval(x, polyder(q))) / below**2)


def _search(points: Points) -> Floats:
    """The rational curve and the breakpoint with the least squares among those tried."""
    # Capped at the smallest x, all points would have the same x.
    places = np.unique(points.x)[1:].tolist()
    last = len(places) - 1
    bounds = [_isotonic_ssr(points, place) for place in places]
    fits = {last: _given(points, places[last])}

    def best() -> int:
        return min(fits, key=lambda i: fits[i].ssr)

    def attempt(tries: list[int]) -> None:
        for i in tries:
            if 0 <= i < last and i not in fits and bounds[i] < fits[best()].ssr:
                fits[i] = _given(points, places[i])

    first = next(i for i in range(last + 1) if bounds[i] < fits[last].ssr or i == last)
    attempt(np.linspace(first, last, COARSE_COUNT, endpoint=False).astype(int).tolist())
    width = ceil((last - first) / COARSE_COUNT)
    while width > 1:
        width = ceil(width / 2)
        attempt([best() - width, best() + width])
    fit = fits[best()]
    return np.append(fit.params, places[best()])


def _given(points: Points, cap: float) -> CurveFit:
    function = SegmentedFunction(cap)
    return CurveFit(function, points, function.estimate(points))


def _isotonic_ssr(points: Points, cap: float) -> float:
    """Lower bound of ssr for non-decreasing curves that are constant from `cap` on."""
    return fit_curve(IsotonicFunction(), np.minimum(points.x, cap), points.y).ssr
