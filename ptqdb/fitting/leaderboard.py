"""Every view x every curve: which of them predicts the loss of networks that it did not see."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Protocol

import duckdb
import polars as pl

from ptqdb.curves import curve as curve_by_name
from ptqdb.database import list_views, read_view, variant_names
from ptqdb.fitting.cross_validation import Fold, folds_of, leave_out, nested_folds
from ptqdb.fitting.record import FitRecord
from ptqdb.fitting.view_fit import (
    ALL,
    GroupFit,
    finite_rows,
    units_of,
    view_points,
    with_figures,
)
from ptqdb.support.workers import results_of
from ptqdb.version import VERSION

BASELINE_PREFIX = "baseline_"
NEEDED_COLUMNS = (
    *("network", "architecture", "number_format", "divergence", "accuracy_loss"),
    *("float_accuracy", "chance_accuracy", "images", "weights_of"),
)


class CompareReporter(Protocol):
    """Is told how a comparison goes on."""

    def planned(self, fit_count: int, present_count: int) -> None:
        """So many views x curves are to be fitted; so many more are known already."""

    def fitted(self, view: str, curve: str) -> None:
        """One of them is done."""


class Silent:
    """Tells nobody."""

    def planned(self, fit_count: int, present_count: int) -> None:
        """Nothing."""

    def fitted(self, view: str, curve: str) -> None:
        """Nothing."""


@dataclass(frozen=True, kw_only=True)
class Entry(FitRecord):
    """A curve fitted over all points of a view, and judged by the units that were left out.

    Attributes
    ----------
    leave_out
        ``network`` or ``architecture``.
    fingerprint
        Digest of all that the figures follow from: points, curve, what is left out, version.
    folds
        One per unit that was left out.
    """

    leave_out: str
    fingerprint: str
    folds: tuple[Fold, ...] = ()

    @property
    def is_baseline(self) -> bool:
        """Whether the view is one that any divergence has to beat."""
        return self.view.startswith(BASELINE_PREFIX)


FIGURES = tuple(name.name for name in fields(Entry) if name.name != "folds")


@dataclass(frozen=True)
class Choice:
    """What choosing the best of many entries is worth, on units that the choice did not see.

    For each unit (network, architecture) that entry was taken which had the best held-out R²
    among the others, and only then judged on this unit. The best entry's own held-out R² is
    higher, because it was picked for it.

    Attributes
    ----------
    held_out_r_squared, held_out_rmse
        Of all units' points together, as in `ptqdb.fitting.cross_validation.HeldOut`.
    chosen
        By unit: view and curve.
    """

    held_out_r_squared: float
    held_out_rmse: float
    chosen: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One fit to make, as it goes to another process."""

    view: str
    curve: str
    leave_out: str
    frame: pl.DataFrame

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the points, the curve, what is left out and the version, hexadecimal."""
        digest = hashlib.sha256(f"{VERSION} {self.curve} {self.leave_out}\n".encode())
        digest.update(self.frame.write_csv(float_precision=17).encode())
        return digest.hexdigest()

    def run(self) -> Entry:
        """Fit the pool, and once without each unit and without each two."""
        curve, points = curve_by_name(self.curve), view_points(self.frame)
        units = units_of(self.frame, self.leave_out)
        held_out = leave_out(points, curve, folds_of(units))
        fit = GroupFit(view=self.view, curve=self.curve, by="", group=ALL, points=len(points))
        fit = with_figures(fit, points, curve, held_out)
        folds = () if fit.error else tuple(nested_folds(points, curve, units, held_out))
        figures = {one.name: getattr(fit, one.name) for one in fields(FitRecord)}
        return Entry(**figures, leave_out=self.leave_out, fingerprint=self.fingerprint, folds=folds)


def tasks_of(
    connection: duckdb.DuckDBPyConnection,
    views: Sequence[str],
    curves: Sequence[str],
    leave_out: str,
) -> list[Task]:
    """What there is to fit: each curve over the finite points of each view."""
    names = [curve_by_name(name).name for name in dict.fromkeys(curves)]
    tasks = []
    for view in views:
        frame = finite_rows(read_view(connection, view).select(NEEDED_COLUMNS))
        frame = frame.sort("network", "number_format")
        tasks += [Task(view, name, leave_out, frame) for name in names]
    return tasks


def matching_views(connection: duckdb.DuckDBPyConnection, pattern: str) -> list[str]:
    """The named views that a glob matches, and the baselines; or one call of ``variant``.

    Raises
    ------
    UsageError
        No view matches.
    """
    named = variant_names(connection)
    baselines = [name for name in named if name.startswith(BASELINE_PREFIX)]
    if "(" in pattern:
        return [pattern, *baselines]
    found = [name for name in named if fnmatchcase(name, pattern)]
    if not found:
        list_views(connection, pattern)  # raises, naming the closest
    return list(dict.fromkeys([*found, *baselines]))


def run_tasks(tasks: Sequence[Task], *, job_count: int = 1) -> Iterator[tuple[int, Entry]]:
    """The entries of the tasks as they are done, each with the place of its task."""
    return results_of(Task.run, [(task,) for task in tasks], job_count=job_count)


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """The best held-out R² first; those without one last, in the order of their names."""

    def place(entry: Entry) -> tuple[float, str, str]:
        r_squared = entry.held_out_r_squared
        return (math.inf if r_squared is None else -r_squared, entry.view, entry.curve)

    return sorted(entries, key=place)


def choose_inside_folds(entries: Sequence[Entry], spread: float) -> Choice | None:
    """Choose an entry for each unit by the others, and judge it on this one.

    Parameters
    ----------
    entries
        To choose among; those of fewer points than the most are not looked at.
    spread
        Sum of squares of all points' y about their mean.

    Returns
    -------
    None where no entry can be chosen, as with fewer than three units.
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


def spread_of(tasks: Sequence[Task]) -> float:
    """Sum of squares of y about its mean, over the points of the task that has most."""
    y = max(tasks, key=lambda task: task.frame.height).frame["accuracy_loss"]
    mean: Any = y.mean()
    return float(((y - mean) ** 2).sum()) if y.len() else 0.0
