"""Sigmoids of log x, from 0 to 1, and the search for the best fit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import leastsq
from scipy.special import expit

from ptqdb.curves.points import Floats
from ptqdb.errors import DataError

# A sigmoid of steepness 100 rises from 0.1 to 0.9 while x grows by 4.5 %: practically a step.
STEEPNESS_RANGE = (0.01, 100.0)
# Limit for the midpoint of a sigmoid past the points' x: the logit of the sigmoid at the nearest
# point is within ±log(1e6), and x itself at most a factor of 1e6 away. Beyond that the curve is a
# power law, or a constant, to six digits, and its height and midpoint are not identified.
REACH = float(np.log(1e6))

# The grids and the number of minima to refine. Doubling each lowers no sum of squares of the
# published sweeps by a millionth.
CENTER_COUNT, STEEPNESS_COUNT, START_COUNT = 24, 14, 4
GRID_STEEPNESS_RANGE = (0.05, 60.0)
NEARER_COUNT = 8
GRID_BEYOND = np.array([0.7, 2.3, 5.0, 9.0])
# Below this logit a sigmoid is 0 in float64; replaces minus infinity, whose product with 0 is NaN.
ZERO_LOGIT = -700.0


def safe_log(x: Floats) -> Floats:
    """Natural logarithm; minus infinity at x <= 0, where a sigmoid of log x is 0."""
    with np.errstate(divide="ignore"):
        logarithm: Floats = np.log(np.maximum(x, 0.0))
    return logarithm


def chance_ceiling(chance_loss: Floats | float | None) -> Floats:
    """The upper limits of curves that end at the chance loss; 0 for networks no better than chance.

    Raises
    ------
    DataError
        `chance_loss` is None.
    """
    if chance_loss is None:
        raise DataError(
            "expected chance_loss, the loss of a network that guesses, for each x, found none; "
            "pass chance_loss"
        )
    return np.maximum(np.asarray(chance_loss, dtype=np.float64), 0.0)


@dataclass(frozen=True, eq=False)
class SigmoidSearch:
    """Least squares of y on height * expit(k (log x - center)), 0 <= height.

    Attributes
    ----------
    log_x
        Shape (points,); minus infinity at x = 0; at least one is finite.
    y
        Shape (points,).
    ceiling
        The height at each point, shape (points,); None to fit one height to all.

    Notes
    -----
    The best height for a given center and k is linear least squares (variable projection; Golub and
    Pereyra, 1973). Center and k are found by a grid search, whose centers are quantiles of the
    points and values beyond them, then Levenberg-Marquardt from its best minima. `REACH` and
    `STEEPNESS_RANGE` bound both. No random numbers are used.
    """

    log_x: Floats
    y: Floats
    ceiling: Floats | None = None

    @cached_property
    def range(self) -> tuple[float, float]:
        """Log x of the smallest and of the largest positive x."""
        positive = self.log_x[self.log_x > -np.inf]
        return float(positive.min()), float(positive.max())

    def best(self) -> tuple[float, float]:
        """Return center and k of the best sigmoid found."""
        found = []
        for center, k in self.starts():
            z = self._unbounded(center, k)
            # MINPACK's covariance, unused here, overflows if a step leaves k undetermined.
            with np.errstate(all="ignore"):
                z, *_ = leastsq(
                    self._residuals, z, Dfun=self._gradient, maxfev=100, full_output=True
                )
            center, log_k, *_ = self._bounded(z)
            found.append((float(np.sum(self._residuals(z) ** 2)), center, float(np.exp(log_k))))
        _, center, k = min(found)
        return center, k

    def starts(self) -> list[tuple[float, float]]:
        """Center and k of the minima of the grid, the best first.

        Each minimum is refined with a second, finer grid: where centers are far apart, only steps
        fit, and their neighbours are steps, too.
        """
        low, high = self.range
        inner = np.quantile(self.log_x[self.log_x > -np.inf], np.linspace(0, 1, CENTER_COUNT))
        centers = np.concatenate([low - GRID_BEYOND[1::-1], inner, high + GRID_BEYOND])
        sse = self._grid(centers)[0]
        around = np.pad(sse, 1, constant_values=np.inf)
        lowest = np.lib.stride_tricks.sliding_window_view(around, (3, 3)).min(axis=(2, 3))
        minima = sorted(np.argwhere(sse <= lowest).tolist(), key=lambda at: float(sse[tuple(at)]))
        found = []
        for _, j in minima[:START_COUNT]:
            ends = centers[max(j - 1, 0)], centers[min(j + 1, len(centers) - 1)]
            sse, nearer, k = self._grid(np.append(centers[j], np.linspace(*ends, NEARER_COUNT)))
            best = np.unravel_index(int(np.argmin(sse)), sse.shape)
            found.append((float(sse[best]), float(nearer[best]), float(k[best])))
        return [(center, k) for _, center, k in sorted(found)]

    def _grid(self, centers: Floats) -> tuple[Floats, Floats, Floats]:
        """Sum of squares, center and k of every steepness by every center."""
        low, high = self.range
        k = np.geomspace(*GRID_STEEPNESS_RANGE, STEEPNESS_COUNT)[:, None]
        # Keeps the logit at the nearest point within REACH, as in `_bounded`.
        bounded = np.clip(centers, low - _reach(k), high + _reach(k))
        logit = k[:, :, None] * (self.log_x - bounded[:, :, None])
        sse = self._sse(expit(logit.reshape(-1, len(self.y)))).reshape(bounded.shape)
        return sse, bounded, np.broadcast_to(k, bounded.shape)

    def height(self, center: float, k: float) -> float:
        """The best height of the sigmoid, if none is given."""
        shape = expit(k * (self.log_x - center))
        return max(float(shape @ self.y), 0.0) / float(shape @ shape)

    def _sse(self, shapes: Floats) -> Floats:
        """Sum of squares of each curve, shape (curves,), for shapes (curves, points)."""
        if self.ceiling is not None:
            residuals = self.y - self.ceiling * shapes
            return np.asarray(np.einsum("ij,ij->i", residuals, residuals), dtype=np.float64)
        explained = np.maximum(shapes @ self.y, 0.0) ** 2
        sse: Floats = self.y @ self.y - explained / np.einsum("ij,ij->i", shapes, shapes)
        return sse

    def _unbounded(self, center: float, k: float) -> Floats:
        low, high = self.range
        half = (high - low) / 2 + float(_reach(k))
        middle, log_half = _log_steepness()
        sines = [(center - (low + high) / 2) / half, (np.log(k) - middle) / log_half]
        z: Floats = np.arcsin(np.clip(sines, -1.0, 1.0))
        return z

    def _bounded(self, z: Floats) -> tuple[float, float, Floats, Floats]:
        """Center and log k, bounded by sines of z, and their gradients."""
        low, high = self.range
        middle, log_half = _log_steepness()
        log_k, by_second = middle + log_half * np.sin(z[1]), log_half * np.cos(z[1])
        reach = float(_reach(np.exp(log_k)))
        half = (high - low) / 2 + reach
        shrinking = -reach if log_k > 0 else 0.0
        center = (low + high) / 2 + half * np.sin(z[0])
        by_z = np.array([half * np.cos(z[0]), np.sin(z[0]) * shrinking * by_second])
        return float(center), float(log_k), by_z, np.array([0.0, by_second])

    def _residuals(self, z: Floats) -> Floats:
        center, log_k, *_ = self._bounded(z)
        shape = expit(np.exp(log_k) * (self.log_x - center))
        return self._scaled(shape) - self.y

    def _scaled(self, shape: Floats) -> Floats:
        if self.ceiling is not None:
            return self.ceiling * shape
        scaled: Floats = max(float(shape @ self.y), 0.0) / float(shape @ shape) * shape
        return scaled

    def _gradient(self, z: Floats) -> Floats:
        """Jacobian of `_residuals`, shape (points, 2)."""
        center, log_k, center_by_z, log_k_by_z = self._bounded(z)
        k = np.exp(log_k)
        logit = np.maximum(k * (self.log_x - center), ZERO_LOGIT)
        shape = expit(logit)
        slope = (shape * (1 - shape))[:, None]
        by_z: Floats = slope * (logit[:, None] * log_k_by_z - k * center_by_z)
        if self.ceiling is not None:
            return self.ceiling[:, None] * by_z
        square = float(shape @ shape)
        height = float(shape @ self.y) / square
        if height <= 0:
            return np.zeros_like(by_z)
        height_by_z = (self.y @ by_z - 2 * height * (shape @ by_z)) / square
        gradient: Floats = height * by_z + shape[:, None] * height_by_z
        return gradient


def _reach(k: Floats | float) -> Floats:
    """Maximum distance of a center past the points, in log x."""
    reach: Floats = REACH / np.maximum(k, 1.0)
    return reach


def _log_steepness() -> tuple[float, float]:
    """Middle and half width of the range of log k."""
    low, high = np.log(STEEPNESS_RANGE)
    return float(low + high) / 2, float(high - low) / 2
