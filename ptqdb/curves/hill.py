"""Hill curves: the loss rises from 0 to a maximum and reaches half of it at x0."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from ptqdb.curves.function import CurveFunction
from ptqdb.curves.points import Floats, Places, Points
from ptqdb.curves.sigmoid import SigmoidSearch, chance_ceiling, safe_log
from ptqdb.errors import DataError


@dataclass(frozen=True)
class HillFunction(CurveFunction):
    """y = A / (1 + (x0 / x)^k) for x > 0, and 0 for x <= 0: non-decreasing, between 0 and A.

    Least squares over A >= 0, x0 > 0 and k > 0; ``params`` is A, x0, k. At x0 the loss is half
    of A, and k is the slope there of the logit over log x (Hill, 1910).

    Notes
    -----
    Bounds keep the parameters finite: k lies in [0.01, 100], and x0 at most a factor of 1e6^(1 /
    max(k, 1)) below or above the range of the positive x. A is then at most about 1e6 sqrt(sum of
    y²). Decreasing or negative points give A = 0. See `SigmoidSearch` for the search.
    """

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """A, x0, k."""
        return ("A", "x0", "k")

    @property
    def starts_at_zero(self) -> bool:
        """Always: there is no constant."""
        return True

    def estimate(self, points: Points) -> Floats:
        """Return the least squares within the bounds, the same each time.

        Raises
        ------
        DataError
            No x is positive.
        """
        search = SigmoidSearch(_checked_log(points), points.y)
        center, k = search.best()
        return np.array([search.height(center, k), np.exp(center), k])

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at `x`, shape (points,)."""
        x = places.x
        height, center, steepness = np.asarray(params, dtype=np.float64)
        y: Floats = height * expit(_logit(x, center, steepness))
        return y

    def jacobian(self, params: ArrayLike, places: Places) -> Floats:
        """Return dy/dparams at `x`, shape (points, 3)."""
        x = places.x
        height, *rest = np.asarray(params, dtype=np.float64)
        share, by_rest = _share_and_slopes(x, *rest)
        return np.column_stack([share, height * by_rest])

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether A >= 0, x0 > 0 and k > 0, all finite: the curve is then non-decreasing."""
        params = np.asarray(params, dtype=np.float64)
        return bool(np.all(np.isfinite(params)) and params[0] >= 0 and np.all(params[1:] > 0))


@dataclass(frozen=True)
class HillChanceFunction(CurveFunction):
    """y = L / (1 + (x0 / x)^k) for x > 0, and 0 for x <= 0; L is the network's chance loss.

    A Hill curve with a known height: least squares over x0 and k, within the bounds of
    `HillFunction`; ``params`` is x0, k. L is 0 for networks no better than chance. The curve is
    non-decreasing in x for each network; networks with different L have different curves.
    """

    needs: ClassVar[tuple[str, ...]] = ("chance_loss",)
    uses_chance_loss: ClassVar[bool] = True

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """x0, k."""
        return ("x0", "k")

    @property
    def starts_at_zero(self) -> bool:
        """Always: there is no constant."""
        return True

    def estimate(self, points: Points) -> Floats:
        """Return the least squares within the bounds, the same each time.

        Raises
        ------
        DataError
            No network better than chance has a positive x.
        """
        log_x, ceiling = _checked_log(points), chance_ceiling(points.chance_loss)
        if not np.any((log_x > -np.inf) & (ceiling > 0)):
            raise DataError(
                "expected a network better than chance at a positive x, found none among "
                f"{len(points)} points; choose a curve that does not need it"
            )
        center, k = SigmoidSearch(log_x, points.y, ceiling).best()
        return np.array([np.exp(center), k])

    def values(self, params: ArrayLike, places: Places) -> Floats:
        """Return the curve's y at `x`, shape (points,).

        Raises
        ------
        DataError
            No `chance_loss`.
        """
        x = places.x
        center, steepness = np.asarray(params, dtype=np.float64)
        y: Floats = chance_ceiling(places.chance_loss) * expit(_logit(x, center, steepness))
        return y

    def jacobian(self, params: ArrayLike, places: Places) -> Floats:
        """Return dy/dparams at `x`, shape (points, 2); raises as `values`."""
        x = places.x
        slopes = _share_and_slopes(x, *np.asarray(params, dtype=np.float64))[1]
        return chance_ceiling(places.chance_loss).reshape(-1, 1) * slopes

    def is_monotone(self, params: ArrayLike, low: float, high: float) -> bool:
        """Whether x0 > 0 and k > 0, both finite: the curve is then non-decreasing."""
        params = np.asarray(params, dtype=np.float64)
        return bool(np.all(np.isfinite(params)) and np.all(params > 0))


def _checked_log(points: Points) -> Floats:
    log_x = safe_log(points.x)
    if not np.any(log_x > -np.inf):
        raise DataError(
            f"expected a positive x, found none among {len(points)} points; "
            "a Hill curve is 0 at x <= 0"
        )
    return log_x


def _logit(x: Floats, center: float, steepness: float) -> Floats:
    logit: Floats = steepness * (safe_log(x) - np.log(center))
    return logit


def _share_and_slopes(x: Floats, center: float, steepness: float) -> tuple[Floats, Floats]:
    """Fraction of the height, shape (points,), and its derivatives by x0 and k, (points, 2)."""
    logit = _logit(x, center, steepness)
    share = expit(logit)
    change = share * (1 - share)
    # At x <= 0 the product is 0 times minus infinity: the curve is 0 there.
    distance = np.where(change > 0, logit, 0.0) / steepness
    return share, np.column_stack([-change * steepness / center, change * distance])
