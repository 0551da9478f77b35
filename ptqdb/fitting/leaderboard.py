"""Fits every curve over every view and ranks them by their predictions of unseen networks."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Protocol

import duckdb
import polars as pl

from ptqdb.curves import curve as curve_by_name
from ptqdb.database import list_views, read_view, variant_names
from ptqdb.fitting.cross_validation import (
    Fold,
    assign_folds,
    leave_out,
    nested_folds,
    relative_weights,
    sum_of_squares,
)
from ptqdb.fitting.record import FitRecord
from ptqdb.fitting.view_fit import (
    ALL,
    GroupFit,
    finite_rows,
    unit_names,
    view_points,
    with_figures,
)
from ptqdb.support.workers import run_in_processes
from ptqdb.version import VERSION

BASELINE_PREFIX = "baseline_"
NEEDED_COLUMNS = (
    *("network", "architecture", "number_format", "divergence", "accuracy_loss"),
    *("float_accuracy", "chance_accuracy", "images", "weights_of", "family", "bits", "ebits"),
)


class CompareReporter(Protocol):
    """Receives the progress of a comparison."""

    def planned(self, fit_count: int, present_count: int) -> None:
        """Receive the numbers of fits to make and of fits already stored."""

    def fitted(self, view: str, curve: str) -> None:
        """One fit is done."""


class Silent:
    """Reports nothing."""

    def planned(self, fit_count: int, present_count: int) -> None:
        """Do nothing."""

    def fitted(self, view: str, curve: str) -> None:
        """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Entry(FitRecord):
    """A curve fitted to all points of a view, with its cross-validation.

    Attributes
    ----------
    leave_out
        ``network`` or ``architecture``.
    fingerprint
        Digest of everything the figures depend on: points, curve, `leave_out`, version.
    folds
        One per left-out unit.
    """

    leave_out: str
    fingerprint: str
    folds: tuple[Fold, ...] = ()

    @property
    def is_baseline(self) -> bool:
        """Whether the view is a baseline that a useful divergence must beat."""
        return self.view.startswith(BASELINE_PREFIX)


FIGURES = tuple(name.name for name in fields(Entry) if name.name != "folds")


@dataclass(frozen=True)
class Choice:
    """Held-out figures of choosing the best entry, from nested cross-validation.

    For each unit (network, architecture), the entry with the best held-out R² among the other
    units is chosen and then judged on this unit. The best entry's own held-out R² is higher,
    because the entry was selected for it.

    Attributes
    ----------
    held_out_r_squared, held_out_rmse
        Over the points of all units, as in `ptqdb.fitting.cross_validation.HeldOut`.
    chosen
        By unit: view and curve.
    """

    held_out_r_squared: float
    held_out_rmse: float
    chosen: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One fit to make, as sent to a worker process."""

    view: str
    curve: str
    leave_out: str
    frame: pl.DataFrame

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the points, the curve, `leave_out` and the version, hexadecimal."""
        digest = hashlib.sha256(f"{VERSION} {self.curve} {self.leave_out}\n".encode())
        digest.update(self.frame.write_csv(float_precision=17).encode())
        return digest.hexdigest()

    def run(self) -> Entry:
        """Fit all points, and once without each fold and without each pair of folds."""
        curve, points = curve_by_name(self.curve), view_points(self.frame)
        units = unit_names(self.frame, self.leave_out)
        held_out = leave_out(points, curve, assign_folds(units))
        fit = GroupFit(view=self.view, curve=self.curve, by="", group=ALL, points=len(points))
        fit = with_figures(fit, points, curve, held_out)
        folds = () if fit.error else tuple(nested_folds(points, curve, units, held_out))
        figures = {one.name: getattr(fit, one.name) for one in fields(FitRecord)}
        return Entry(**figures, leave_out=self.leave_out, fingerprint=self.fingerprint, folds=folds)


def list_tasks(
    connection: duckdb.DuckDBPyConnection,
    views: Sequence[str],
    curves: Sequence[str],
    leave_out: str,
) -> list[Task]:
    """Return the fits to make: each curve over the finite points of each view."""
    names = [curve_by_name(name).name for name in dict.fromkeys(curves)]
    tasks = []
    for view in views:
        frame = finite_rows(read_view(connection, view).select(NEEDED_COLUMNS))
        frame = frame.sort("network", "number_format")
        tasks += [Task(view, name, leave_out, frame) for name in names]
    return tasks


def matching_views(connection: duckdb.DuckDBPyConnection, pattern: str) -> list[str]:
    """Return the views that a glob matches, or a call of ``variant``, and the baselines.

    After a glob and an at sign, a scheme: all views are then of that scheme.

    Raises
    ------
    UsageError
        No view matches.
    """
    named = variant_names(connection)
    baselines = [name for name in named if name.startswith(BASELINE_PREFIX)]
    if "(" in pattern:
        return [pattern, *baselines]
    glob, sign, scheme = pattern.partition("@")
    found = [name for name in named if fnmatchcase(name, glob)]
    if not found:
        list_views(connection, glob)  # raises an error that names the closest
    return [f"{name}{sign}{scheme}" for name in dict.fromkeys([*found, *baselines])]


def run_tasks(tasks: Sequence[Task], *, job_count: int = 1) -> Iterator[tuple[int, Entry]]:
    """Yield the entries of the tasks as they finish, each with the index of its task."""
    return run_in_processes(Task.run, [(task,) for task in tasks], job_count=job_count)


def rank_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Sort by held-out R², best first; entries without one come last, sorted by name."""

    def place(entry: Entry) -> tuple[float, str, str]:
        r_squared = entry.held_out_r_squared
        return (math.inf if r_squared is None else -r_squared, entry.view, entry.curve)

    return sorted(entries, key=place)


def choose_inside_folds(entries: Sequence[Entry], spread: float) -> Choice | None:
    """Choose an entry for each unit by the other units, and judge it on this one.

    Parameters
    ----------
    entries
        Candidates; only those with the largest number of points are considered.
    spread
        Sum of squares of all points' y about their mean, as `total_squares` gives it.

    Returns
    -------
    None if no entry can be chosen, as with fewer than three units.
    """
    rivals = [entry for entry in entries if entry.folds]
    most = max((entry.points for entry in rivals), default=0)
    rivals = [entry for entry in rivals if entry.points == most]
    if not rivals or spread <= 0:
        return None
    sse, chosen = 0.0, {}
    for place, fold in enumerate(rivals[0].folds):
        known = [entry for entry in rivals if entry.folds[place].inner_r_squared is not None]
        if not known:
            return None
        best = max(known, key=lambda entry: entry.folds[place].inner_r_squared or -math.inf)
        fold_sse = best.folds[place].sse
        if fold_sse is None:
            return None
        sse += fold_sse
        chosen[fold.left_out] = (best.view, best.curve)
    return Choice(1 - sse / spread, math.sqrt(sse / most), chosen)


def total_squares(tasks: Sequence[Task]) -> float:
    """Weighted sum of squares of y about its mean, for the task with the most points.

    The weights have the mean 1, as in `nested_folds`.
    """
    frame = max(tasks, key=lambda task: task.frame.height).frame
    if frame.is_empty():
        return 0.0
    points = view_points(frame)
    return sum_of_squares(points.y, relative_weights(points.weights))
