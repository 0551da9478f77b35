"""A curve over a view with everything a chart shows: fits, held-out figures, prediction band."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ptqdb.curves import curve as curve_by_name
from ptqdb.fitting.cross_validation import assign_folds, leave_out
from ptqdb.fitting.intervals import LossPredictor
from ptqdb.fitting.view_fit import (
    ALL,
    GroupFit,
    finite_rows,
    fit_view_frame,
    group_names,
    unit_names,
)


@dataclass(frozen=True, eq=False)
class FittedView:
    """A curve fitted to all points of a view, and to those of each network.

    Attributes
    ----------
    view, frame
        The view's name and rows.
    fits
        ``ALL`` first, then the networks in ascending order; with held-out figures if there are
        two or more networks.
    predictor
        Predicts other networks; None with one network, or if the points are too few to fit the
        curve without one of them.
    """

    view: str
    frame: pl.DataFrame
    fits: tuple[GroupFit, ...]
    predictor: LossPredictor | None

    @property
    def pool(self) -> GroupFit:
        """The fit to all points."""
        return self.fits[0]

    @property
    def networks(self) -> list[str]:
        """Names of the networks that have a fit."""
        return [fit.group for fit in self.fits if fit.group != ALL]

    def of(self, group: str) -> GroupFit:
        """The fit to one network, or to ``ALL``."""
        return next(fit for fit in self.fits if fit.group == group)


def fit_whole_view(
    frame: pl.DataFrame,
    view: str,
    curve: str,
    *,
    by_network: bool = True,
    is_validated: bool = True,
) -> FittedView:
    """Fit a curve to all rows of a view, to each network's, and once without each network.

    Every fold is fitted once: its errors give both the held-out figures and the band.

    Parameters
    ----------
    frame
        The view's rows.
    by_network
        Whether to fit each network alone as well.
    is_validated
        Whether to cross-validate; if not, there are no held-out figures and no band.

    Raises
    ------
    UsageError
        No such curve.
    """
    by = "network" if by_network else None
    fits = fit_view_frame(frame, view=view, curve=curve, by=by, leave_out_by=None)
    finite = finite_rows(frame)
    units, networks = unit_names(finite, "network"), group_names(finite["network"])
    fitted = fits[0].fitted
    if not is_validated or fitted is None or len(np.unique(units)) < 2:
        return FittedView(view, frame, tuple(fits), None)
    held_out = leave_out(fitted.points, curve_by_name(curve), assign_folds(units))
    whole = []
    for fit in fits:
        part = held_out if fit.group == ALL else held_out.where(networks == fit.group)
        if fit.fitted is None:
            whole.append(fit)
            continue
        whole.append(
            replace(
                fit,
                held_out_r_squared=part.r_squared,
                held_out_rmse=part.rmse,
                held_out_median_error=part.median_error,
            )
        )
    is_told = bool(np.isfinite(held_out.predicted).all())
    predictor = LossPredictor(fitted, held_out.predicted, units) if is_told else None
    return FittedView(view, frame, tuple(whole), predictor)
