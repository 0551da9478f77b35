"""Compares views and curves by what they predict of networks that they did not see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import duckdb

from ptqdb.database import looks_at_losses
from ptqdb.defaults import COMPARED_CURVES
from ptqdb.fit_store import store_entries, stored_entries
from ptqdb.leaderboard import (
    Choice,
    CompareReporter,
    Entry,
    Silent,
    choose_inside_folds,
    matching_views,
    ranked,
    run_tasks,
    spread_of,
    tasks_of,
)

STORED_AT_ONCE = 64


@dataclass(frozen=True)
class Leaderboard:
    """Every view x every curve.

    Attributes
    ----------
    entries
        The best held-out R² first, baselines among them.
    evaluated_views
        Those whose divergence looks at the losses of the very network (the correction
        sensitivity; the breakpoint of segmented views): it was not wholly left out.
    choice
        What picking the best of them is worth, baselines and evaluated views aside; None with
        fewer than three units.
    """

    entries: tuple[Entry, ...]
    evaluated_views: frozenset[str]
    choice: Choice | None


def compare(
    connection: duckdb.DuckDBPyConnection,
    pattern: str = "*",
    curves: Sequence[str] = COMPARED_CURVES,
    *,
    leave_out: str = "network",
    job_count: int = 1,
    reporter: CompareReporter | None = None,
) -> Leaderboard:
    """Fit every curve over every view, with each unit left out, and rank them.

    What was fitted before over the same points is taken from the table ``fit``; the rest is
    added to it as it is found, so that a stopped comparison goes on where it was.

    Parameters
    ----------
    connection
        Open for writing.
    pattern
        A name or glob of views, or a call of ``variant``; the baselines are always among them.
    leave_out
        ``network`` or ``architecture``.
    job_count
        Processes.

    Raises
    ------
    UsageError
        No such view or curve.
    """
    reporter = reporter or Silent()
    tasks = tasks_of(connection, matching_views(connection, pattern), curves, leave_out)
    entries = stored_entries(connection, tasks)
    missing = [task for place, task in enumerate(tasks) if place not in entries]
    reporter.planned(len(missing), len(entries))
    found = run_tasks(missing, job_count=job_count, reporter=reporter)
    every = list(entries.values())
    for batch in _batches(found):
        store_entries(connection, batch)
        every += batch
    evaluated = frozenset(filter(looks_at_losses, dict.fromkeys(task.view for task in tasks)))
    rivals = [one for one in every if not one.is_baseline and one.view not in evaluated]
    choice = choose_inside_folds(rivals, spread_of(tasks))
    return Leaderboard(tuple(ranked(every)), evaluated, choice)


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(islice(entries, STORED_AT_ONCE)):
        yield batch
