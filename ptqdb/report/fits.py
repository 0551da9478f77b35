"""All fits that the page shows, made in several processes."""

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import polars as pl

from ptqdb.fitted_view import FittedView, fit_whole_view
from ptqdb.leaderboard import CompareReporter, Silent, single_threaded_children

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
    found: dict[tuple[str, str], FittedView] = {}
    if job_count <= 1:
        for view, curve in tasks:
            found[view, curve] = fit_whole_view(frames[view], view, curve)
            reporter.fitted(view, curve)
        return found
    with (
        single_threaded_children(),
        ProcessPoolExecutor(job_count, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        columns = [[frames[view] for view, _ in tasks], *zip(*tasks, strict=True)]
        for fitted, (view, curve) in zip(pool.map(fit_whole_view, *columns), tasks, strict=True):
            found[view, curve] = fitted
            reporter.fitted(view, curve)
    return found
