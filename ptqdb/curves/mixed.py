"""A straight line over log x with a random intercept for each network."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ptqdb.curves.function import inverse_gram
from ptqdb.curves.linear import LinearFunction
from ptqdb.curves.points import Floats, Points
from ptqdb.errors import DataError

# Network variance over residual variance; beyond the ends it is practically 0 or infinite.
RATIO_RANGE = (1e-8, 1e8)
RATIO_COUNT = 49


@dataclass(frozen=True)
class MixedFunction(LinearFunction):
    """y = const + log_x * log(x) + an intercept of the network, by restricted likelihood (REML).

    The networks' intercepts are normal about 0 with standard deviation ``network_sd``, the points
    about their network's line with ``residual_sd``; ``params`` is const, log_x, network_sd,
    residual_sd. `values` is the line without the network's intercept: the prediction for a new
    network. Residuals, ``ssr`` and ``rsquared`` refer to that line: differences between networks
    count as unexplained.

    Notes
    -----
    Given the ratio of the two variances, the rest is generalized least squares. The ratio is found
    by a grid search, then Brent's method. A network variance of 0 is valid. `log_likelihood` is the
    marginal one of all points at the REML estimate, at most its maximum. (Restricted likelihoods of
    curves with different terms cannot be compared.)

    statsmodels' MixedLM is not used: at a network variance of 0, which most views of the embedded
    study have, version 0.15 ends at an intercept of 0 and reports convergence.
    """

    needs: ClassVar[tuple[str, ...]] = ("network",)
    models_networks: ClassVar[bool] = True

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Const, log_x, and the two standard deviations, in the unit of y."""
        return ("const", "log_x", "network_sd", "residual_sd")

    def estimate(self, points: Points) -> Floats:
        """Return the REML estimate; deterministic.

        Raises
        ------
        DataError
            The points are of one network, or fewer than two more than there are networks; or as
            `LinearFunction`.
        """
        if points.network_count < 2:
            raise DataError(
                "expected points of two networks or more, found one; "
                "choose linear, or pool networks"
            )
        if len(points) < points.network_count + 2:
            raise DataError(
                f"expected at least {points.network_count + 2} points of {points.network_count} "
                f"networks, found {len(points)}; add points of the same networks, or choose linear"
            )
        super().estimate(points)
        groups = _Groups.of(points)
        design = self.design(points.x)
        # Centering y keeps the precision of its residuals.
        center = float(points.y.mean())
        ratio = _best_ratio(groups, design, points.y - center)
        fixed, rss, _ = groups.least_squares(design, points.y - center, ratio)
        variance = rss / (len(points) - 2)
        fixed[0] += center
        return np.array([*fixed, np.sqrt(ratio * variance), np.sqrt(variance)])

    def parameter_count(self, params: Floats, points: Points) -> float:
        """Const, log_x and network_sd; the residual variance is not counted, as in `linear`."""
        return 3.0

    def log_likelihood(self, params: Floats, points: Points) -> float:
        """Marginal and normal: points of one network share the variance network_sd²."""
        groups = _Groups.of(points)
        resid = points.y - self.values(params, points.places)
        network_variance, variance = params[2] ** 2, params[3] ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = network_variance / variance
            square = np.sum(groups.whitened(resid[:, None], ratio) ** 2) / variance
            logs = len(points) * np.log(2 * np.pi * variance)
        return float(-(logs + groups.log_determinant(ratio) + square) / 2)

    def covariance(self, params: Floats, points: Points) -> Floats:
        """Of const and log_x, for known variances; NaN for network_sd and residual_sd.

        inverse(X'inverse(V)X), with the covariance V of y at the estimate.
        """
        covariance = np.full((4, 4), np.nan)
        ratio = (params[2] / params[3]) ** 2 if params[3] > 0 else np.nan
        if np.isfinite(ratio):
            whitened = _Groups.of(points).whitened(self.design(points.x), ratio)
            covariance[:2, :2] = params[3] ** 2 * inverse_gram(whitened)
        return covariance


@dataclass(frozen=True, eq=False)
class _Groups:
    """The network of each point, shape (points,), and the number of points per network."""

    index: NDArray[Any]
    counts: NDArray[Any]

    @classmethod
    def of(cls, points: Points) -> "_Groups":
        assert points.network is not None
        _, index, counts = np.unique(points.network, return_inverse=True, return_counts=True)
        return cls(index, counts)

    def whitened(self, columns: Floats, ratio: float) -> Floats:
        """Columns times the inverse square root of I + ratio 11' in each network.

        That subtracts 1 - 1 / sqrt(1 + points * ratio) of their mean in the network.
        """
        sums = np.zeros((len(self.counts), columns.shape[1]))
        np.add.at(sums, self.index, columns)
        part = (1 - 1 / np.sqrt(1 + self.counts * ratio)) / self.counts
        whitened: Floats = columns - (part[:, None] * sums)[self.index]
        return whitened

    def log_determinant(self, ratio: float) -> float:
        """Of I + ratio 11' over all networks."""
        return float(np.sum(np.log1p(self.counts * ratio)))

    def least_squares(self, design: Floats, y: Floats, ratio: float) -> tuple[Floats, float, float]:
        """Generalized: coefficients, whitened sum of squares, and -2 log REML likelihood.

        The latter is profiled over the residual variance, up to a constant (Harville, 1977).
        """
        whitened = self.whitened(np.column_stack([design, y]), ratio)
        q, r = np.linalg.qr(whitened[:, :-1])
        fixed = np.linalg.solve(r, q.T @ whitened[:, -1])
        rss = float(np.sum((whitened[:, -1] - whitened[:, :-1] @ fixed) ** 2))
        log_variance = np.log(max(rss, np.finfo(np.float64).tiny))
        log_gram = 2 * float(np.sum(np.log(np.abs(np.diag(r)))))
        rest = len(y) - design.shape[1]
        return fixed, rss, rest * log_variance + self.log_determinant(ratio) + log_gram


def _best_ratio(groups: _Groups, design: Floats, y: Floats) -> float:
    """The ratio of network to residual variance that maximizes the restricted likelihood."""

    def criterion(log_ratio: float) -> float:
        return groups.least_squares(design, y, float(np.exp(log_ratio)))[2]

    grid = np.log(np.geomspace(*RATIO_RANGE, RATIO_COUNT))
    best = int(np.argmin([criterion(value) for value in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    options = {"xatol": 1e-9}
    found = minimize_scalar(criterion, bounds=around, method="bounded", options=options)
    candidates = (-np.inf, float(grid[best]), float(found.x))
    return float(np.exp(min(candidates, key=criterion)))
