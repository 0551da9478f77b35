"""Makes all fits of the page, in several processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ptqdb.fitting.fitted_view import FittedView, fit_whole_view
from ptqdb.fitting.leaderboard import CompareReporter, Silent
from ptqdb.support.workers import run_in_processes

Fits = Mapping[tuple[str, str], FittedView]


@dataclass(frozen=True)
class Task:
    """The curves to fit over a view, one after the other in one process.

    Attributes
    ----------
    view, frame
        The view's name and rows.
    curves
        Fitted to all points, to each network, and once without each network.
    pooled
        Fitted only to all points: cross-validating the higher degrees would take longer than the
        rest of the page.
    """

    view: str
    frame: pl.DataFrame
    curves: tuple[str, ...]
    pooled: tuple[str, ...] = ()

    @property
    def every_curve(self) -> tuple[str, ...]:
        """`curves` and `pooled`."""
        return (*self.curves, *self.pooled)


def fit_views(
    tasks: Sequence[Task],
    *,
    job_count: int = 1,
    reporter: CompareReporter | None = None,
) -> Fits:
    """Fit the curves of each view, pooled and by network, and without each network.

    Parameters
    ----------
    job_count
        Number of processes. One process fits all curves of a view: some start from others.
    """
    reporter = reporter or Silent()
    reporter.planned(sum(len(task.every_curve) for task in tasks), 0)
    found: dict[tuple[str, str], FittedView] = {}
    calls = [(task,) for task in tasks]
    for place, fitted in run_in_processes(_fitted, calls, job_count=job_count):
        task = tasks[place]
        for curve, one in zip(task.every_curve, fitted, strict=True):
            found[task.view, curve] = one
            reporter.fitted(task.view, curve)
    return found


def _fitted(task: Task) -> list[FittedView]:
    return [
        fit_whole_view(
            task.frame,
            task.view,
            curve,
            by_network=curve in task.curves,
            is_validated=curve in task.curves,
        )
        for curve in task.every_curve
    ]
