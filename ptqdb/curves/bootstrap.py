"""A bootstrap over networks: how a pooled curve varies with the networks that it was fitted to."""

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
    """A curve fitted anew to networks drawn with replacement, as many as there are.

    Points of one network share what the curve does not know of it, so that a bootstrap over
    points would find the curve far too certain (a cluster bootstrap; Cameron, Gelbach and
    Miller, 2008).

    Attributes
    ----------
    fits
        One per draw that carried the curve. What was chosen from the points before the fit
        (knots, smoothness) is that of the original fit.
    failed_count
        Draws that did not carry the curve, such as one network that lost the same everywhere.
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
    """Fit the curve of a fit to resampled networks, the same ones for the same seed.

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
