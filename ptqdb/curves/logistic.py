"""A logistic curve over log x up to the chance loss, fitted to counts of correct images."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from ptqdb.curves.function import CurveFunction, inverse_gram
from ptqdb.curves.points import Floats, Places, Points
from ptqdb.curves.sigmoid import (
    REACH,
    STEEPNESS_RANGE,
    SigmoidSearch,
    chance_ceiling,
    safe_log,
)
from ptqdb.errors import DataError

SLOPE_RANGE = (0.0, STEEPNESS_RANGE[1])
START_COUNT, STEP_COUNT, HALVING_COUNT = 2, 100, 30
# Relative tolerances: two deviances, and two shares, that differ by rounding only.
SAME_DEVIANCE, SAME_SHARE = 1e-14, 1e-9


@dataclass(frozen=True)
class LogisticFunction(CurveFunction):
    """y = L expit(const + log_x * log(x)) for x > 0, and 0 for x <= 0; L is the chance loss.

    A quasi-binomial model of the correct counts: of n images, with float accuracy f, a fraction mu
    = f (1 - y) is expected to be correct, with variance mu (1 - mu) / n times a dispersion
    (Wedderburn, 1974; McCullagh and Nelder, 1989). ``params`` is const, log_x. L is 0 for networks
    no better than chance. The slope log_x is at least 0: where the unconstrained estimate is
    negative, it is 0, and the curve is constant for x > 0.

    Notes
    -----
    Fisher scoring with step halving, from the two best sigmoids of a grid. Bounds keep the
    parameters finite for separable points, and for points all at 0 or at chance: log_x is at most
    100, the logit at the largest x at least -log(1e6), and that at the smallest positive x at most
    log(1e6). mu (1 - mu) is at least its value at half an image.

    A quasi-likelihood is not a likelihood: `log_likelihood`, aic and bic are NaN. The fit weights
    points by their inverse variance, so it does not maximize ``rsquared``.
    """

    needs: ClassVar[tuple[str, ...]] = ("chance_loss", "float_accuracy", "images")
    uses_chance_loss: ClassVar[bool] = True

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Const and log_x, the slope of the logit over the natural logarithm of x."""
        return ("const", "log_x")

    def estimate(self, points: Points) -> Floats:
        """Return the maximum quasi-likelihood estimate within the bounds; deterministic.

        Raises
        ------
        DataError
            No network better than chance has a positive x; or y, float_accuracy and images give no
            valid count of correct images.
        """
        counts = _Counts.of(points)
        search = SigmoidSearch(counts.log_x, points.y, counts.ceiling)
        starts = [np.array([-k * center, k]) for center, k in search.starts()]
        starts = sorted(starts, key=counts.deviance)[:START_COUNT]
        return min((_score(counts, search.range, start) for start in starts), key=counts.deviance)

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at `x`, shape (points,).

        Raises
        ------
        DataError
            No `chance_loss`.
        """
        x = places.x
        y: Floats = chance_ceiling(places.chance_loss) * _share(
            np.asarray(params, dtype=np.float64), safe_log(x)
        )
        return y

    def jacobian(self, params: ArrayLike, places: Places) -> Floats:
        """Return dy/dparams at `x`, shape (points, 2); raises as `values`."""
        x = places.x
        log_x = safe_log(x)
        share = _share(np.asarray(params, dtype=np.float64), log_x)
        return (chance_ceiling(places.chance_loss) * share * (1 - share))[:, None] * _design(log_x)

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether the parameters are finite and the slope is not negative."""
        params = np.asarray(params, dtype=np.float64)
        return bool(np.all(np.isfinite(params)) and params[1] >= 0)

    def log_likelihood(self, params: Floats, points: Points) -> float:
        """NaN: a quasi-likelihood is not a likelihood."""
        return float("nan")

    def covariance(self, params: Floats, points: Points) -> Floats:
        """Dispersion times the inverse Fisher information, for independent points.

        The dispersion is Pearson's chi² / (points - 2). NaN if the information is singular, or no
        residual degree of freedom is left. It ignores the bounds.
        """
        if len(points) < 3:
            return np.full((2, 2), np.nan)
        counts = _Counts.of(points)
        residuals, jacobian = counts.standardized(params)
        return float(residuals @ residuals) / (len(points) - 2) * inverse_gram(jacobian)


@dataclass(frozen=True, eq=False)
class _Counts:
    """Observed fractions of correct images and what the model needs; all of shape (points,).

    Attributes
    ----------
    log_x
        Minus infinity at x <= 0.
    correct
        Fraction of correct images, in [0, 1].
    accuracy, images
        Of the float network: a fraction; a count.
    ceiling
        The chance loss, 0 or more.
    """

    log_x: Floats
    correct: Floats
    accuracy: Floats
    images: Floats
    ceiling: Floats

    @classmethod
    def of(cls, points: Points) -> "_Counts":
        assert points.float_accuracy is not None
        assert points.images is not None
        log_x, ceiling = safe_log(points.x), chance_ceiling(points.chance_loss)
        if not np.any((log_x > -np.inf) & (ceiling > 0)):
            raise DataError(
                "expected a network better than chance at a positive x, found none among "
                f"{len(points)} points; choose a curve that does not need it"
            )
        correct = points.float_accuracy * (1 - points.y)
        fitting = (points.images >= 1) & (points.float_accuracy <= 1 + SAME_SHARE)
        fitting &= (points.float_accuracy > 0) & (abs(correct - 0.5) <= 0.5 + SAME_SHARE)
        fitting &= ceiling <= 1
        if not fitting.all():
            raise DataError(
                "expected images of at least 1, float_accuracy in (0, 1], chance_loss of at most 1 "
                "and float_accuracy * (1 - y), the share of correct images, in [0, 1], found "
                f"otherwise at {np.sum(~fitting)} of {len(points)} points; "
                "pass fractions (not percent) and relative losses"
            )
        return cls(log_x, np.clip(correct, 0, 1), points.float_accuracy, points.images, ceiling)

    def expected(self, params: Floats) -> Floats:
        """Expected fraction of correct images, at least half an image away from 0 and from 1."""
        share = self.accuracy * (1 - self.ceiling * _share(params, self.log_x))
        half = 0.5 / self.images
        expected: Floats = np.clip(share, half, 1 - half)
        return expected

    def deviance(self, params: Floats) -> float:
        """-2 times the quasi-log-likelihood at dispersion 1."""
        share = self.expected(params)
        each = self.correct * np.log(share) + (1 - self.correct) * np.log1p(-share)
        return float(-2 * np.sum(self.images * each))

    def standardized(self, params: Floats) -> tuple[Floats, Floats]:
        """Pearson residuals, and the standardized derivatives of the expectation (points, 2).

        With the derivatives J, J'J is the Fisher information.
        """
        expected = self.expected(params)
        deviation = np.sqrt(expected * (1 - expected) / self.images)
        share = _share(params, self.log_x)
        slope = -self.accuracy * self.ceiling * share * (1 - share) / deviation
        return (self.correct - expected) / deviation, slope[:, None] * _design(self.log_x)


def _score(counts: _Counts, log_range: tuple[float, float], start: Floats) -> Floats:
    """Fisher scoring from `start` (const, log_x), within the bounds."""
    params, deviance = start, counts.deviance(start)
    for _ in range(STEP_COUNT):
        residuals, jacobian = counts.standardized(params)
        step = np.linalg.lstsq(jacobian, residuals, rcond=None)[0]
        slope = float(np.clip(params[1] + step[1], *SLOPE_RANGE))
        if slope != params[1] + step[1]:
            # The best step that ends at the bound of the slope.
            rest = residuals - jacobian[:, 1] * (slope - params[1])
            const = np.linalg.lstsq(jacobian[:, :1], rest, rcond=None)[0]
            step = np.append(const, slope - params[1])
        for halving in range(HALVING_COUNT):
            trial = _bounded(params + step * 0.5**halving, log_range)
            reached = counts.deviance(trial)
            if reached <= deviance * (1 + SAME_DEVIANCE):
                break
        else:
            return params
        gain = deviance - reached
        params, deviance = trial, reached
        if gain <= SAME_DEVIANCE * deviance:
            break
    return params


def _bounded(params: Floats, log_range: tuple[float, float]) -> Floats:
    low, high = log_range
    slope = float(np.clip(params[1], *SLOPE_RANGE))
    return np.array([np.clip(params[0], -REACH - slope * high, REACH - slope * low), slope])


def _share(params: Floats, log_x: Floats) -> Floats:
    """The sigmoid of log x; 0 at minus infinity, at a slope of 0 too."""
    positive = log_x > -np.inf
    share: Floats = np.where(positive, expit(_design(log_x) @ params), 0.0)
    return share


def _design(log_x: Floats) -> Floats:
    """Ones and log x, shape (points, 2); 0 instead of minus infinity, where all slopes are 0."""
    return np.column_stack([np.ones_like(log_x), np.where(log_x > -np.inf, log_x, 0.0)])
