"""Widens predictions from probes by the sampling error of their few images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptqdb.curves.points import Floats
from ptqdb.defaults import COVERAGE
from ptqdb.fitting.intervals import Prediction

LEAST_CHANGED = 1.645
"""Standard error in images where hardly any prediction changes, as in ``accuracy_loss_se``."""


@dataclass(frozen=True, eq=False)
class ProbeSample:
    """The images behind a network's probes.

    Attributes
    ----------
    image_count
        Number of images: int64, (values,).
    changed_count
        Images whose prediction the format changes: int64, (values,).
    """

    image_count: NDArray[np.int64]
    changed_count: NDArray[np.int64]

    def error(self, loss: Floats) -> Floats:
        """Return the standard error of losses that were estimated from these images.

        The number of changed images is binomial, and the loss is proportional to it:
        ``loss * sqrt((1 - p) / (p N))`` with p = changed / N. It is 1.645 / N at least, as where no
        image changes.

        Parameters
        ----------
        loss
            Predicted losses, shape (values,).

        Examples
        --------
        >>> sample = ProbeSample(np.array([100, 100]), np.array([20, 0]))
        >>> sample.error(np.array([0.2, 0.0]))
        array([0.04   , 0.01645])
        """
        count, changed = self.image_count, np.maximum(self.changed_count, 1)
        of_changed = loss * np.sqrt((count - self.changed_count) / (changed * count))
        error: Floats = np.maximum(of_changed, LEAST_CHANGED / count)
        return error


def as_it_stands(loss: Floats, sample: ProbeSample, coverage: float = COVERAGE) -> Prediction:
    """Return soft agreement as the prediction, with the interval of its sampling error alone.

    The lower end may be negative: a measured loss is, where a format corrects more images than it
    loses.

    Parameters
    ----------
    loss
        The divergences of ``probe_soft``, shape (values,).
    """
    half = _quantile(coverage) * sample.error(loss)
    return Prediction(loss, loss - half, np.minimum(loss + half, 1.0))


def widened(
    found: Prediction,
    sample: ProbeSample,
    reference_image_count: int,
    coverage: float = COVERAGE,
) -> Prediction:
    """Widen intervals for probes of fewer images than those of the reference.

    The held-out errors behind the intervals contain the sampling error of the reference's probes,
    so only what exceeds it is added, as a variance. With as many images nothing is.

    Parameters
    ----------
    found
        A prediction from a curve over the reference's probes.
    reference_image_count
        Number of images of these probes.
    """
    share = np.maximum(1 - sample.image_count / reference_image_count, 0.0)
    added = share * (_quantile(coverage) * sample.error(found.loss)) ** 2
    up, down = found.upper - found.loss, found.loss - found.lower
    return Prediction(
        found.loss,
        found.loss - np.sqrt(down**2 + added),
        np.maximum(found.loss, np.minimum(found.loss + np.sqrt(up**2 + added), 1.0)),
    )


def _quantile(coverage: float) -> float:
    """How many standard errors on each side contain this share of a normal distribution."""
    from scipy.stats import norm

    return float(norm.ppf((1 + coverage) / 2))
