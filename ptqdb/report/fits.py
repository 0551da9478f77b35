"""All fits that the page shows, made in several processes."""

from collections.abc import Mapping, Sequence
from itertools import product

import polars as pl

from ptqdb.fitted_view import FittedView, fit_whole_view
from ptqdb.leaderboard import CompareReporter, Silent
from ptqdb.workers import results_of

Fits = Mapping[tuple[str, str], FittedView]


def fit_views(
    frames: Mapping[str, pl.DataFrame],
    curves: Sequence[str],
    *,
    job_count: int = 1,
    reporter: CompareReporter | None = None,
) -> Fits:
    """Fit every curve over every view, pooled and by network, and without each network.

    Parameters
    ----------
    frames
        The rows of each view.
    job_count
        Processes.
    """
    reporter = reporter or Silent()
    tasks = list(product(frames, curves))
    reporter.planned(len(tasks), 0)
    calls = [(frames[view], view, curve) for view, curve in tasks]
    found: dict[tuple[str, str], FittedView] = {}
    for place, fitted in results_of(fit_whole_view, calls, job_count=job_count):
        found[tasks[place]] = fitted
        reporter.fitted(*tasks[place])
    return found
