"""Rational curves: least squares among those proven non-decreasing and free of poles."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache, reduce
from math import comb
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike
from scipy.optimize import leastsq, minimize

from ptqdb.curves.function import CurveFunction
from ptqdb.curves.points import Floats, Places, Points
from ptqdb.curves.polynomials import is_nondecreasing, multiply
from ptqdb.errors import UsageError

DEGREES = (2, 3, 4)

# The search grid of degree 2 and the number of its minima to refine. Doubling either does not
# change the fourth decimal of any R² of the published sweeps.
LOG_M_COUNT, LOG_K_COUNT, START_COUNT, GRID_POINT_COUNT = 24, 16, 4, 1024
LOG_K_RANGE = (np.log(1e-3), np.log(1e4))
LOG_M_LIMIT, LOG_K_LIMIT = 60.0, np.log(1e5)
# A pole just past the last point lets the curve jump to that point alone: this overfits. The
# denominator has no zero closer to the last point than this fraction of the range.
POLE_DISTANCE = 0.02

# Distance of a degree-2 fit from the boundary of the monotone set, so that rounding its parameters
# keeps it inside; tried in turn until the proof holds.
MARGINS = (1e-9, 1e-6, 1e-3)

# Refinement of degree 3 and 4. The factors raise the degree of a start. There are several local
# minima, and the best of one degree does not always lead to the best of the next, so several
# different ones are continued. Of 34 fits to 17 pools and networks, seven fell short of the best
# known R² by up to 0.02 when one was continued, one (by 0.0016) with two, and none with seven
# factors and four, in twice the time. Without the last factor, degree 4 misses 0.015 of the
# embedded AlexNet's R² in `fakefreeze_flops_log`.
RAISES = ((1.0, 1.0), (1.0, 0.02), (0.02, 1.0), (1.0, 0.2), (0.2, 1.0), (1.0, 0.001))
KEPT_COUNT, DIFFERENT = 2, 1e-4
# The constraints are first imposed at these nodes, in t / (1 - t). They are dense in the middle: a
# step narrower than their distance is missed and takes further rounds to find.
NODES = np.concatenate(
    ([0.0], np.geomspace(1e-8, 1e-3, 10), np.geomspace(1.6e-3, 630, 80), np.geomspace(1e3, 1e8, 10))
)
ROUND_COUNT, ITERATION_COUNT = 12, 60
SLOPE_FLOOR, POLE_FLOOR = 1e-6, 1e-5
# Enough for a view: all points, each network, and all but each network.
REMEMBERED_SEARCHES = 256
OUT_OF_ITERATIONS = 9  # SciPy's status code


@dataclass(frozen=True)
class RationalFunction(CurveFunction):
    """y = (a0 + a1 x + ... + ad x^d) / (1 + b1 x + ... + bd x^d), non-decreasing.

    Attributes
    ----------
    degree
        d: 2, 3 or 4. ``params`` is a0, ..., ad, b1, ..., bd, for x and y in their own units.

    Raises
    ------
    UsageError
        The degree is not 2, 3 or 4.

    Notes
    -----
    With u = (x - min x) / (max x - min x) and t = m u / (m u + 1 - u), m > 0, every curve of
    degree 2 that is non-decreasing and without a pole on [min x, max x] is

        c + A (2 r k t (1 - t) + t²) / ((1 - t)² + 2 k t (1 - t) + t²),  A, k >= 0, 0 <= r <= 1:

    m makes the denominator 1 at both ends (its middle coefficient k > -1 keeps it positive). The
    slope at the ends has the sign of A r k and of A (1 - r) k; between them the slope is then
    positive. Given m and k, the best c, A and r are linear least squares with two weights >= 0. m
    and k are found by a grid search, then Levenberg-Marquardt from its best minima. Degree 3 starts
    from the best minima of degree 2, and degree 4 from those of degree 3, with numerator and
    denominator multiplied by one factor. It uses sequential quadratic programming with the slope's
    numerator and the denominator constrained to be positive. This is a local search; the fit is
    never worse than that of the lower degree. No random numbers are used.

    There is no pole within 2 % of the range past max x, so the curve cannot jump to the last point.
    """

    degree: int = 2

    def __post_init__(self) -> None:
        if self.degree not in DEGREES:
            raise UsageError(f"expected a degree of {DEGREES}, found {self.degree!r}; choose one")

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """a0, ..., ad, b1, ..., bd."""
        above = [f"a{i}" for i in range(self.degree + 1)]
        return (*above, *(f"b{i}" for i in range(1, self.degree + 1)))

    def estimate(self, points: Points) -> Floats:
        """Return the least squares among the curves proven non-decreasing; deterministic."""
        x, y = points.x, points.y
        low, high = float(x.min()), float(x.max())
        u = (x - low) / (high - low)
        center, size = float(y.mean()), float(y.std())
        candidates = [np.array([center, *np.zeros(2 * self.degree)])]
        for form in _forms(u, (y - center) / size, self.degree):
            params = _params(form, low, high, self.degree)
            if params is not None:
                # The polynomials were fitted to standardized y.
                denominator = np.concatenate(([1.0], params[self.degree + 1 :]))
                params[: self.degree + 1] *= size
                params[: self.degree + 1] += center * denominator
                candidates.append(params)
        # Far from 0, rounding can destroy a curve: compare what `values` returns.
        ssr = [
            float(np.sum((y - self.values(params, points.places)) ** 2)) for params in candidates
        ]
        ranked = sorted((value, i) for i, value in enumerate(ssr) if np.isfinite(value))
        rising = (i for _, i in ranked if self.is_monotone(candidates[i], low, high))
        return candidates[next(rising)]

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at any `x`; infinite at a pole."""
        x = places.x
        numerator, denominator = self._split(params)
        with np.errstate(all="ignore"):
            y: Floats = polyval(x, numerator) / polyval(x, denominator)
        return y

    def jacobian(self, params: ArrayLike, places: Places) -> Floats:
        """Return dy/dparams at `x`, shape (points, parameters)."""
        x = places.x
        powers = np.vander(x, self.degree + 1, increasing=True)
        by_numerator = powers / polyval(x, self._split(params)[1])[:, None]
        by_denominator = -by_numerator * self.values(params, places)[:, None]
        return np.hstack([by_numerator, by_denominator[:, 1:]])

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the curve is proven non-decreasing and free of poles on [low, high]."""
        numerator, denominator = self._split(params)
        return is_nondecreasing(numerator.tolist(), denominator.tolist(), low, high)

    def _split(self, params: ArrayLike) -> tuple[Floats, Floats]:
        params = np.asarray(params, dtype=np.float64)
        return params[: self.degree + 1], np.concatenate(([1.0], params[self.degree + 1 :]))


@dataclass(frozen=True)
class _Form:
    """p / q, their Bernstein coefficients in t = m u / (m u + 1 - u), shape (degree + 1,)."""

    m: float
    p: Floats
    q: Floats

    def raised(self, first: float, last: float) -> "_Form":
        """Multiply p and q by a linear factor from `first` to `last`; the curve is unchanged."""
        index = np.arange(len(self.p) + 1) / len(self.p)
        p, q = (
            first * (1 - index) * np.append(c, 0) + last * index * np.insert(c, 0, 0)
            for c in (self.p, self.q)
        )
        return _Form(self.m, p, q)


@dataclass(frozen=True)
class _Shape:
    """The weights of the two extreme shapes of degree 2, m and k (see `RationalFunction`)."""

    first: float
    second: float
    m: float
    k: float

    @property
    def rise(self) -> float:
        """Rise of the curve from one end to the other."""
        return self.first + self.second

    def form(self, u: Floats, y: Floats, margin: float) -> _Form:
        """The curve, moved inside the monotone set by `margin`."""
        slack = margin * (1 + self.k)
        middle = np.clip(self.second / self.rise * self.k, slack, max(self.k - slack, slack))
        q = np.array([1.0, max(self.k, 2 * slack), 1.0])
        shape = self.rise * np.array([0.0, middle, 1.0])
        basis = _bernstein(2, self.m * u, 1 - u)
        curve = basis @ shape / (basis @ q)
        return _Form(self.m, shape + np.mean(y - curve) * q, q)


def _forms(u: Floats, y: Floats, degree: int) -> list[_Form]:
    """Fit degree 2 up to `degree`, x in [0, 1]; empty if no curve is better than a constant."""
    return list(_search(u.tobytes(), y.tobytes(), degree)[0])


@lru_cache(maxsize=REMEMBERED_SEARCHES)
def _search(
    u_bytes: bytes, y_bytes: bytes, degree: int
) -> tuple[tuple[_Form, ...], tuple[_Form, ...]]:
    """The forms up to `degree`, and the starts for the next degree.

    Cached: degree 4 begins with all of degree 3, which is often fitted to the same points.
    """
    u, y = np.frombuffer(u_bytes), np.frombuffer(y_bytes)
    if degree == 2:
        shapes = [shape for shape in _search_degree_two(u, y) if shape.rise > 0]
        if not shapes:
            return (), ()
        forms = tuple(shapes[0].form(u, y, margin) for margin in MARGINS)
        return forms, tuple(shape.form(u, y, MARGINS[1]) for shape in shapes)
    forms, kept = _search(u_bytes, y_bytes, degree - 1)
    starts = [form.raised(*ends) for form in _best(kept, u, y) for ends in RAISES]
    refined = tuple(form for start in starts if (form := _refine(start, u, y)) is not None)
    return (*forms, *refined), (*refined, *(form.raised(1.0, 1.0) for form in kept))


def _best(forms: Iterable[_Form], u: Floats, y: Floats) -> list[_Form]:
    """The best few distinct forms, the best first."""
    best: dict[float, _Form] = {}
    for sse, form in sorted(((_sse(form, u, y), form) for form in forms), key=itemgetter(0)):
        if all(sse > (1 + DIFFERENT) * other for other in best):
            best[sse] = form
    return list(best.values())[:KEPT_COUNT]


def _bernstein(degree: int, part: Floats, rest: Floats) -> Floats:
    """Bernstein polynomials of part / (part + rest), shape (values, degree + 1)."""
    t, s = part / (part + rest), rest / (part + rest)
    return np.stack([comb(degree, i) * t**i * s ** (degree - i) for i in range(degree + 1)], -1)


@cache
def _powers(degree: int) -> Floats:
    """Return the matrix from Bernstein coefficients to those of 1, t, t², ..."""
    columns = []
    for i in range(degree + 1):
        term = comb(degree, i) * Polynomial([0, 1]) ** i * Polynomial([1, -1]) ** (degree - i)
        columns.append(np.pad(term.coef, (0, degree + 1 - len(term.coef))))
    return np.stack(columns, axis=1)


def _sse(form: _Form, u: Floats, y: Floats) -> float:
    basis = _bernstein(len(form.p) - 1, form.m * u, 1 - u)
    return float(np.sum((y - basis @ form.p / (basis @ form.q)) ** 2))


def _search_degree_two(u: Floats, y: Floats) -> list[_Shape]:
    """Find the minima of the least squares of degree 2, the best first."""
    inner = u[(u > 0) & (u < 1)]
    log_odds = np.log(inner / (1 - inner)) if inner.size else np.zeros(1)
    # A subset of the points suffices to find the starts.
    some = np.argsort(u, kind="stable")[:: -(-len(u) // GRID_POINT_COUNT)]
    log_m = np.linspace(-log_odds.max() - 1, -log_odds.min() + 1, LOG_M_COUNT)
    log_k = np.linspace(*LOG_K_RANGE, LOG_K_COUNT)
    sse = np.array(
        [np.sum(_mix(u[some], y[some], m, log_k[:, None])[2] ** 2, axis=-1) for m in log_m]
    )

    around = np.pad(sse, 1, constant_values=np.inf)
    lowest = np.lib.stride_tricks.sliding_window_view(around, (3, 3)).min(axis=(2, 3))
    starts = sorted(np.argwhere(sse <= lowest).tolist(), key=lambda at: float(sse[tuple(at)]))

    def residual(z: Floats) -> Floats:
        return _mix(u, y, z[0], z[1:])[2]

    found = []
    for i, j in starts[:START_COUNT]:
        z, *_ = leastsq(residual, [log_m[i], log_k[j]], maxfev=120, full_output=True)
        first, second, rest = _mix(u, y, z[0], z[1:])
        m, k = np.exp(_clipped(*z)).tolist()
        found.append((float(np.sum(rest**2)), _Shape(float(first), float(second), m, k)))
    return [shape for _, shape in sorted(found, key=itemgetter(0))]


def _mix(u: Floats, y: Floats, log_m: float, log_k: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares of y on a constant and the two extreme shapes of degree 2, weights >= 0.

    Parameters
    ----------
    u, y
        Shape (points,).
    log_m, log_k
        Natural logarithms; `log_k` of shape (curves, 1) or (1,).

    Returns
    -------
    The weights of t² / q and of (2 k t (1 - t) + t²) / q, shape (curves,) or (), and the
    residuals, shape (curves, points) or (points,).
    """
    log_m, log_k = _clipped(log_m, log_k)
    m, k = np.exp(log_m), np.exp(log_k)
    start, middle, end = (1 - u) ** 2, 2 * k * m * u * (1 - u), (m * u) ** 2
    total = start + middle + end
    first, second = end / total, (middle + end) / total
    first = first - first.mean(axis=-1, keepdims=True)
    second = second - second.mean(axis=-1, keepdims=True)
    y = y - y.mean()
    aa, bb = np.sum(first**2, axis=-1), np.sum(second**2, axis=-1)
    ab, ay, by = np.sum(first * second, axis=-1), first @ y, second @ y
    determinant = aa * bb - ab**2
    tiny = np.finfo(np.float64).tiny
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wa, wb = (bb * ay - ab * by) / determinant, (aa * by - ab * ay) / determinant
        both = (determinant > 1e-12 * aa * bb) & (wa >= 0) & (wb >= 0)
    alone_a, alone_b = np.maximum(ay, 0) / (aa + tiny), np.maximum(by, 0) / (bb + tiny)
    a_wins = alone_a * ay >= alone_b * by
    wa = np.where(both, wa, np.where(a_wins, alone_a, 0.0))
    wb = np.where(both, wb, np.where(a_wins, 0.0, alone_b))
    return wa, wb, y - wa[..., None] * first - wb[..., None] * second


def _clipped(log_m: Any, log_k: Any) -> tuple[Any, Any]:
    """Limit the search to curves that survive rounding and have no pole near the last point.

    The denominator's zeros past u = 1 have (u - 1) / u = m (k ± sqrt(k² - 1)): m / (2 k) at least,
    and where k < 1 of the size m.
    """
    log_m = np.clip(log_m, np.log(POLE_DISTANCE), LOG_M_LIMIT)
    most_k = np.minimum(log_m - np.log(2 * POLE_DISTANCE), LOG_K_LIMIT)
    return log_m, np.clip(log_k, -LOG_K_LIMIT, most_k)


class _Constraint:
    """Constraint for `minimize`: the slope's numerator p'q - pq' and q are positive at given t."""

    def __init__(self, degree: int, odds: Floats, unmix: Floats) -> None:
        self.unmix = unmix
        one = np.ones_like(odds)
        self.basis = np.vstack([_bernstein(degree, odds, one), np.eye(degree + 1)[-1]])
        lower = np.vstack([_bernstein(degree - 1, odds, one), np.eye(degree)[-1]])
        none = np.zeros((len(lower), 1))
        self.slope = degree * (np.hstack([none, lower]) - np.hstack([lower, none]))

    def above_floor(self, z: Floats) -> Floats:
        p, q = z[: len(self.unmix)], 1 + self.unmix @ z[len(self.unmix) :]
        wronskian = (self.slope @ p) * (self.basis @ q) - (self.basis @ p) * (self.slope @ q)
        return np.concatenate([wronskian - SLOPE_FLOOR, self.basis @ q - POLE_FLOOR])

    def gradient(self, z: Floats) -> Floats:
        p, q = z[: len(self.unmix)], 1 + self.unmix @ z[len(self.unmix) :]
        by_p = self.slope * (self.basis @ q)[:, None] - self.basis * (self.slope @ q)[:, None]
        by_q = self.basis * (self.slope @ p)[:, None] - self.slope * (self.basis @ p)[:, None]
        above = np.hstack([by_p, by_q @ self.unmix])
        return np.vstack([above, np.hstack([np.zeros_like(by_p), self.basis @ self.unmix])])


def _refine(form: _Form, u: Floats, y: Floats) -> _Form | None:
    """Find the least squares curve near `form` that is non-decreasing on [0, 1]; None on failure.

    q is normalised to a mean of 1 over t. Where the constraints fail between the nodes, the worst
    points are added as nodes and the search continues.
    """
    count = len(form.p)
    basis = _bernstein(count - 1, form.m * u, 1 - u)
    # Orthonormal columns, each with sum 0: q = 1 + unmix z keeps its mean.
    unmix = np.linalg.svd(np.ones((1, count)))[2][1:].T

    def objective(z: Floats) -> tuple[float, Floats]:
        q = basis @ (1 + unmix @ z[count:])
        fitted = basis @ z[:count] / q
        pull = (fitted - y) / q
        gradient = np.concatenate([pull @ basis, -(pull * fitted) @ basis @ unmix])
        return float(np.sum((fitted - y) ** 2) / 2 / len(y)), gradient / len(y)

    mean = form.q.mean()
    z = np.concatenate([form.p / mean, unmix.T @ (form.q / mean)])
    odds = NODES
    for _ in range(ROUND_COUNT):
        held = _Constraint(count - 1, odds, unmix)
        constraints = {"type": "ineq", "fun": held.above_floor, "jac": held.gradient}
        options = {"maxiter": ITERATION_COUNT, "ftol": 1e-8}
        with np.errstate(all="ignore"):
            found = minimize(
                objective, z, jac=True, method="SLSQP", constraints=constraints, options=options
            )
        z = found.x
        if not np.all(np.isfinite(z)):
            return None
        form = _Form(form.m, z[:count], 1 + unmix @ z[count:])
        failing = _failing(form)
        if not failing.size and found.status != OUT_OF_ITERATIONS:
            # q may still be negative towards one end, where it has no minimum.
            return form if (basis @ form.q).min() > 0 and not _has_near_pole(form) else None
        odds = np.concatenate([odds, failing])
    return None


def _failing(form: _Form) -> Floats:
    """Find t / (1 - t) of the minima of the slope's numerator and of q that are not above 0.

    Found as roots of their derivatives in floating point: they guide the search; the proof is
    separate.
    """
    to_powers = _powers(len(form.p) - 1)
    p, q = Polynomial(to_powers @ form.p), Polynomial(to_powers @ form.q)
    found: list[Floats] = []
    for below in (p.deriv() * q - p * q.deriv(), q):
        t = np.asarray(below.deriv().roots(), dtype=np.complex128)
        inside = t.real[(t.real > 0) & (t.real < 1)]
        found.append(inside[below(inside) <= 0])
    failing: Floats = np.concatenate(found)
    return failing / (1 - failing)


def _has_near_pole(form: _Form) -> bool:
    """Whether q has a complex root past the last point within `POLE_DISTANCE` of it."""
    degree, behind = len(form.q) - 1, Polynomial([0.0, 1.0])  # u - 1
    q = sum(
        value * comb(degree, i) * (form.m * (1 + behind)) ** i * (-behind) ** (degree - i)
        for i, value in enumerate(form.q.tolist())
    )
    roots = np.asarray(Polynomial(q.coef).roots(), dtype=np.complex128)
    return bool(np.any((roots.real > 0) & (np.abs(roots) < POLE_DISTANCE)))


def _params(form: _Form, low: float, high: float, degree: int) -> Floats | None:
    """a0, ..., b1, ... of `form` for x in [low, high], expanded exactly and rounded once.

    None if they are not finite: a pole at 0, below the range, or an overflow.
    """
    if not (np.all(np.isfinite(form.p)) and np.all(np.isfinite(form.q))):
        return None
    top = len(form.p) - 1
    rising = [-Fraction(low) * Fraction(form.m), Fraction(form.m)]
    falling = [Fraction(high), Fraction(-1)]
    sides = []
    for coefficients in (form.p, form.q):
        total = [Fraction(0)] * (degree + 1)
        for i, value in enumerate(coefficients.tolist()):
            factors = [rising] * i + [falling] * (top - i)
            term = reduce(multiply, factors, [comb(top, i) * Fraction(value)])
            total = [a + (term[j] if j < len(term) else 0) for j, a in enumerate(total)]
        sides.append(total)
    try:
        return np.array([float(c / sides[1][0]) for c in sides[0] + sides[1][1:]])
    except (ZeroDivisionError, OverflowError):
        return None
