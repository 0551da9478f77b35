"""A bootstrap over networks: how a pooled curve varies with the sample of networks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ptqdb.curves.function import CurveFit
from ptqdb.curves.points import Floats
from ptqdb.errors import DataError

DRAW_COUNT = 200
SEED = 0


@dataclass(frozen=True, eq=False)
class NetworkBootstrap:
    """A curve refitted to networks drawn with replacement (a cluster bootstrap).

    Each draw has as many networks as the sample. Residuals of one network are correlated, so a
    bootstrap over points would give intervals that are far too narrow (Cameron, Gelbach and Miller,
    2008).

    Attributes
    ----------
    fits
        One per draw to which the curve could be fitted. Knots and smoothness are those of the
        original fit.
    failed_count
        Draws to which the curve could not be fitted, such as one network with a constant loss.
    """

    fits: tuple[CurveFit, ...]
    failed_count: int

    @property
    def params(self) -> Floats:
        """Shape (draws, parameters)."""
        return np.stack([fit.params for fit in self.fits])

    def covariance(self) -> Floats:
        """Covariance of the parameters over the draws; NaN with fewer than two."""
        count = len(self.fits[0].params) if self.fits else 0
        if len(self.fits) < 2:
            return np.full((count, count), np.nan)
        return np.cov(self.params, rowvar=False).reshape(count, count)

    def predictions(self, x: Floats, chance_loss: Floats | None = None) -> Floats:
        """The curves' y at `x`, shape (draws, values)."""
        return np.stack([fit.predict(x, chance_loss) for fit in self.fits])


def network_bootstrap(
    fit: CurveFit, *, draw_count: int = DRAW_COUNT, seed: int = SEED
) -> NetworkBootstrap:
    """Refit a curve to resampled networks; the same seed gives the same draws.

    Parameters
    ----------
    fit
        Of points of two networks or more.

    Raises
    ------
    DataError
        The points are of one network.
    """
    if fit.points.network_count < 2:
        raise DataError("expected points of two networks or more to draw from, found one")
    fits = []
    for names in _draws(fit, draw_count, seed):
        points = fit.points.of_networks(names)
        try:
            if points.x.min() == points.x.max() or points.y.min() == points.y.max():
                continue
            fits.append(CurveFit(fit.function, points, fit.function.estimate(points)))
        except DataError:
            continue
    return NetworkBootstrap(tuple(fits), draw_count - len(fits))


def _draws(fit: CurveFit, draw_count: int, seed: int) -> Iterator[np.ndarray]:
    assert fit.points.network is not None
    names = np.unique(fit.points.network)
    generator = np.random.default_rng(seed)
    for _ in range(draw_count):
        yield generator.choice(names, len(names))
