"""Compares views and curves by their predictions of unseen networks."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import duckdb

from ptqdb.database import looks_at_losses, uses_probe
from ptqdb.defaults import COMPARED_CURVES
from ptqdb.fitting.leaderboard import (
    Choice,
    CompareReporter,
    Entry,
    Silent,
    choose_inside_folds,
    list_tasks,
    matching_views,
    rank_entries,
    run_tasks,
    total_squares,
)
from ptqdb.fitting.store import keep_entries, stored_entries
from ptqdb.fitting.view_fit import twin_remarks


@dataclass(frozen=True)
class Leaderboard:
    """Every view x every curve.

    Attributes
    ----------
    entries
        Best held-out R² first, baselines included.
    evaluated_views
        Views whose divergence depends on the losses of the predicted network (the correction
        sensitivity; the breakpoint of segmented views), so it was not fully left out.
    choice
        Held-out figures of choosing the best entry, without baselines, evaluated views and views
        of probes, which need a run of the quantized network; None with fewer than three units.
    remarks
        Remarks on networks that count as one.
    """

    entries: tuple[Entry, ...]
    evaluated_views: frozenset[str]
    choice: Choice | None
    remarks: tuple[str, ...] = ()


class OpenDatabase(Protocol):
    """Opens a database, as ``partial(connect, path)`` does."""

    def __call__(self, *, read_only: bool) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Return a connection that closes with its context."""


def compare(
    open_database: OpenDatabase,
    pattern: str = "*",
    curves: Sequence[str] = COMPARED_CURVES,
    *,
    leave_out: str = "network",
    job_count: int = 1,
    reporter: CompareReporter | None = None,
) -> Leaderboard:
    """Fit every curve over every view, cross-validate them, and rank them.

    Earlier fits of the same points are read from the table ``fit``. New ones are stored there as
    soon as they are done, so an interrupted comparison resumes. The views are read through a
    read-only connection; a writing one is opened only if fits are missing.

    Parameters
    ----------
    pattern
        A name or glob of views, or a call of ``variant``; the baselines are always included.
    leave_out
        ``network`` or ``architecture``.
    job_count
        Number of processes.

    Raises
    ------
    UsageError
        No such view or curve.
    DatabaseError
        The database cannot be read, or cannot be written although there are new results.
    """
    reporter = reporter or Silent()
    with open_database(read_only=True) as reader:
        tasks = list_tasks(reader, matching_views(reader, pattern), curves, leave_out)
        entries = stored_entries(reader, tasks)
    missing = [task for place, task in enumerate(tasks) if place not in entries]
    every = list(entries.values())
    if missing:
        with open_database(read_only=False) as writer, keep_entries(writer) as keep:
            reporter.planned(len(missing), len(entries))
            for place, entry in run_tasks(missing, job_count=job_count):
                keep(place, entry)
                every.append(entry)
                reporter.fitted(entry.view, entry.curve)
    else:
        reporter.planned(0, len(entries))
    evaluated = frozenset(filter(looks_at_losses, dict.fromkeys(task.view for task in tasks)))
    probed = frozenset(filter(uses_probe, {task.view for task in tasks}))
    others = evaluated | probed
    rivals = [one for one in every if not one.is_baseline and one.view not in others]
    choice = choose_inside_folds(rivals, total_squares(tasks))
    remarks = dict.fromkeys(remark for task in tasks for remark in twin_remarks(task.frame))
    return Leaderboard(tuple(rank_entries(every)), evaluated, choice, tuple(remarks))
