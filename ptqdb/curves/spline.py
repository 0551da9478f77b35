"""Monotone smoothing splines, with the smoothness chosen by cross-validation."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import sqrt
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline
from scipy.optimize import nnls

from ptqdb.curves.function import CurveFunction
from ptqdb.curves.points import Floats, Places, Points
from ptqdb.errors import DataError, UsageError

DEGREE = 3
INNER_KNOT_LIMIT = 20
FOLD_LIMIT = 10

# From a straight line in knot index to hardly any smoothing, the smoothest first, four per decade.
# Eight per decade change no R² of the published sweeps by more than 0.005.
PENALTIES: tuple[float, ...] = tuple((10.0 ** np.arange(4.0, -8.25, -0.25)).tolist())
# Take the smoothest spline whose error is within this fraction of the smallest.
TIE = 1e-6

# Two were always enough.
ITERATIONS_PER_COEFFICIENT = 100
# Singular values below this, relative to the largest, are rounding errors.
RANK_TOLERANCE = 1e-12


@dataclass(frozen=True)
class SplineFunction(CurveFunction):
    """A cubic spline with non-decreasing B-spline coefficients and a roughness penalty.

    ``params`` holds the coefficients c0, c1, ...: two more than there are knots.

    Attributes
    ----------
    knots
        Strictly ascending, from the smallest to the largest x; `prepared` chooses them. The curve
        is constant beyond the ends.
    penalty
        Weight of the sum of squared second differences of the coefficients, relative to the mean
        squared residual. Dimensionless; `prepared` chooses it.

    Notes
    -----
    The slope of a spline is a spline of one degree less, whose coefficients are the differences of
    neighbouring coefficients, each times a positive number. B-splines are non-negative, so
    non-decreasing coefficients give a non-decreasing curve. (For a cubic this is sufficient but not
    necessary: Kelly and Rice, 1990.)

    Divergences span many decades and include zeros and repeated values. The inner knots are
    therefore quantiles of the distinct x, and roughness is measured per knot, not per unit of x
    (the penalty of Eilers and Marx, 1996, on unevenly spaced knots): per unit of x it would force
    the curve to be straight at small x. In the limit of a large penalty, all coefficients rise by
    the same amount.

    The penalty minimizes the squared error on points left out: whole networks, since points of one
    network are not independent, or every tenth point in the order of x if there is one network.
    Given knots and penalty, the coefficients are least squares over non-negative increments: a
    convex problem with one solution.

    For a fixed set of tied coefficients (Meyer and Woodroofe, 2000, for the degrees of freedom),
    the estimate is linear in y. `parameter_count` is the trace of that smoother, and `covariance`
    its covariance; both ignore the search for the penalty and the bias of smoothing.
    """

    knots: tuple[float, ...] = ()
    penalty: float = 1.0

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """c0, c1, ...: one per B-spline."""
        return tuple(f"c{i}" for i in range(len(self.knots) + DEGREE - 1 if self.knots else 0))

    @property
    def least_point_count(self) -> int:
        """The number of coefficients of a cubic; fewer points leave little for cross-validation."""
        return DEGREE + 1

    def prepared(self, points: Points) -> Self:
        """Return the curve with knots at quantiles of x, and the penalty that predicts best."""
        distinct = np.unique(points.x)
        count = min(INNER_KNOT_LIMIT, len(distinct) // 2)
        quantiles = np.quantile(distinct, np.linspace(0, 1, count + 2))
        chosen = replace(self, knots=tuple(np.unique(quantiles).tolist()))
        errors = chosen.left_out_errors(points)
        least = float(errors.min()) * (1 + TIE)
        good = (p for p, error in zip(PENALTIES, errors, strict=True) if error <= least)
        return replace(chosen, penalty=next(good))

    def left_out_errors(self, points: Points) -> Floats:
        """The sum of squared errors on points left out, for each of `PENALTIES`.

        A fold is skipped if all remaining points have the same x.
        """
        errors = np.zeros(len(PENALTIES))
        for left_out in _folds(points):
            x = points.x[~left_out]
            if len(np.unique(x)) < 2:
                continue
            problem = _Problem(self.steps(x), points.y[~left_out])
            # Beyond its range a fit predicts the value at the nearest end.
            steps = self.steps(np.clip(points.x[left_out], x.min(), x.max()))
            for i, penalty in enumerate(PENALTIES):
                start, increments = problem.solved(penalty)
                errors[i] += np.sum((points.y[left_out] - start - steps @ increments) ** 2)
        return errors

    def estimate(self, points: Points) -> Floats:
        """Return the non-decreasing coefficients with the least penalized squares.

        Raises
        ------
        UsageError
            The curve has no knots yet.
        DataError
            The search for the coefficients does not converge.
        """
        if not self.knots:
            raise UsageError(
                "expected a spline with knots, found one without; call prepared(points)"
            )
        start, increments = _Problem(self.steps(points.x), points.y).solved(self.penalty)
        # Adding non-negative numbers never rounds below the previous sum.
        params: Floats = start + np.concatenate(([0.0], np.cumsum(increments)))
        return params

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at any x."""
        y: Floats = self.jacobian(params, places) @ np.asarray(params, dtype=np.float64)
        return y

    def jacobian(self, params: ArrayLike, places: Places) -> Floats:
        """Return the B-splines at `x`, shape (points, parameters): the curve is linear in them."""
        x = places.x
        ends = (self.knots[0],) * DEGREE, (self.knots[-1],) * DEGREE
        knots = np.concatenate([ends[0], self.knots, ends[1]])
        held = np.clip(x, self.knots[0], self.knots[-1])
        basis: Floats = BSpline.design_matrix(held, knots, DEGREE).toarray()
        return basis

    def steps(self, x: Floats) -> Floats:
        """Return sums of B-splines from the second on, shape (points, parameters - 1).

        The curve is c0 plus the increments of the coefficients, each times one of these sums, which
        rise from 0 to 1 (I-splines; Ramsay, 1988).
        """
        basis = self.jacobian((), Places(x))
        return np.cumsum(basis[:, :0:-1], axis=1)[:, ::-1]

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the coefficients are finite and sorted: the curve is then non-decreasing."""
        coefficients = np.asarray(params, dtype=np.float64)
        return bool(np.all(np.isfinite(coefficients)) and np.all(np.diff(coefficients) >= 0))

    def parameter_count(self, params: Floats, points: Points) -> float:
        """The trace of the smoother over the coefficients that are free at the estimate."""
        smoother = self.jacobian(params, points.places) * self._response(params, points).T
        # Rounded, or a fit through all points would keep a tiny residual degree of freedom.
        return round(float(np.sum(smoother)), 9)

    def covariance(self, params: Floats, points: Points) -> Floats:
        """Covariance of the coefficients for independent points; see the class's notes.

        The covariance of the linear estimate, times the residual variance s²; tied coefficients
        move together. NaN if no residual degree of freedom is left.
        """
        rest = len(points) - self.parameter_count(params, points)
        if rest <= 0:
            return np.full((len(params), len(params)), np.nan)
        response = self._response(params, points)
        residuals = points.y - self.values(params, points.places)
        covariance: Floats = float(np.sum(residuals**2)) / rest * response @ response.T
        return covariance

    def _response(self, params: Floats, points: Points) -> Floats:
        """Derivative of the coefficients by y for fixed ties, shape (parameters, points)."""
        free = np.diff(params) > 0
        problem = _Problem(self.steps(points.x), points.y)
        penalized = np.vstack([problem.steps, problem.bending(self.penalty)])[:, free]
        increments = np.linalg.pinv(penalized, rcond=RANK_TOLERANCE)[:, : len(points)]
        sums = np.tri(len(params), len(free), -1)[:, free] - problem.center[free]
        response: Floats = 1 / len(points) + sums @ increments
        return response


class _Problem:
    """Penalized least squares of centered y over centered steps; the constant comes last.

    Parameters
    ----------
    steps, y
        Shapes (points, steps) and (points,).
    """

    def __init__(self, steps: Floats, y: Floats) -> None:
        self.count = len(y)
        self.center, self.mean = steps.mean(axis=0), float(y.mean())
        self.steps = steps - self.center
        self.y = y - self.mean
        # The triangular factor has the same sums of squares as all points: one reduction serves all
        # penalties.
        augmented: Floats = np.column_stack([self.steps, self.y])
        self.triangle: Floats = np.linalg.qr(augmented).R

    def bending(self, penalty: float) -> Floats:
        """Rows whose sum of squares is the penalty: differences of increments."""
        bending: Floats = np.diff(np.eye(self.steps.shape[1]), axis=0)
        return sqrt(self.count * penalty) * bending

    def solved(self, penalty: float) -> tuple[float, Floats]:
        """The first coefficient and the increments to the others, not below 0."""
        bending = self.bending(penalty)
        above = np.vstack([self.triangle[:, :-1], bending])
        goal = np.concatenate([self.triangle[:, -1], np.zeros(len(bending))])
        limit = ITERATIONS_PER_COEFFICIENT * above.shape[1]
        try:
            increments, _ = nnls(above, goal, maxiter=limit)
        except RuntimeError as error:
            raise DataError(
                f"expected the spline's coefficients after at most {limit} steps, found no "
                "convergence; choose another curve"
            ) from error
        return self.mean - float(self.center @ increments), increments


def _folds(points: Points) -> Iterator[NDArray[np.bool_]]:
    """Masks of the points left out in turn: networks, or every k-th point in the order of x."""
    if points.network is not None and points.network_count > 1:
        label = np.unique(points.network, return_inverse=True)[1]
    else:
        # Ties in x are sorted by y, so the order of the input does not matter.
        label = np.empty(len(points), dtype=np.int64)
        label[np.lexsort((points.y, points.x))] = np.arange(len(points))
    count = min(FOLD_LIMIT, int(label.max()) + 1)
    for fold in range(count):
        yield label % count == fold
