"""Stores the entries of the leaderboard in the tables ``fit`` and ``fit_fold``."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import duckdb
import polars as pl

from ptqdb.database import insert, next_id, query, read_view, transaction, uses_probe
from ptqdb.defaults import PREDICTION_CURVE, PREDICTION_VIEW
from ptqdb.fitting.cross_validation import Fold
from ptqdb.fitting.leaderboard import FIGURES, Entry, Task
from ptqdb.fitting.view_fit import fit_view_frame
from ptqdb.support.interruption import defer_interrupts

SECONDS_BETWEEN_WRITES = 0.5


def stored_entries(
    connection: duckdb.DuckDBPyConnection, tasks: Sequence[Task]
) -> dict[int, Entry]:
    """Return the stored entries that are still valid, by the index of their task."""
    rows = query(connection, f"select fit_id, {', '.join(FIGURES)} from fit").rows(named=True)
    found = {(row["view"], row["curve"], row["leave_out"]): row for row in rows}
    by_fit = query(connection, "from fit_fold order by fit_id, left_out").partition_by(
        "fit_id", as_dict=True
    )
    entries = {}
    for place, task in enumerate(tasks):
        row = found.get((task.view, task.curve, task.leave_out))
        if row is None or row["fingerprint"] != task.fingerprint:
            continue
        fit_id = row.pop("fit_id")
        folds = by_fit.get((fit_id,))
        entries[place] = Entry(
            **row | {"params": tuple(row["params"])},
            folds=()
            if folds is None
            else tuple(Fold(**fold) for fold in folds.drop("fit_id").rows(named=True)),
        )
    return entries


@contextmanager
def keep_entries(connection: duckdb.DuckDBPyConnection) -> Iterator[Callable[[int, Entry], None]]:
    """Yield a function that stores an entry, within half a second and before the block ends.

    It takes the index of the entry, which determines its id, and the entry. A separate thread
    writes the entries: Ctrl-C does not interrupt it, and fitting continues meanwhile.

    Parameters
    ----------
    connection
        Open for writing; must not be used for anything else within the block.
    """
    first_id = next_id(connection, "fit")
    waiting: queue.SimpleQueue[tuple[int, Entry]] = queue.SimpleQueue()
    is_over = threading.Event()
    failures: list[BaseException] = []

    def store() -> None:
        try:
            while not is_over.wait(SECONDS_BETWEEN_WRITES):
                store_entries(connection, _taken(waiting))
            store_entries(connection, _taken(waiting))
        except BaseException as error:
            failures.append(error)

    def keep(place: int, entry: Entry) -> None:
        if failures:
            raise failures[0]
        waiting.put((first_id + place, entry))

    thread = threading.Thread(target=store)
    thread.start()
    try:
        yield keep
    finally:
        with defer_interrupts():
            is_over.set()
            thread.join()
    if failures:
        raise failures[0]


def _taken(waiting: "queue.SimpleQueue[tuple[int, Entry]]") -> dict[int, Entry]:
    """All waiting entries."""
    return dict(waiting.get() for _ in range(waiting.qsize()))


def store_entries(connection: duckdb.DuckDBPyConnection, entries: Mapping[int, Entry]) -> None:
    """Write entries by id; each replaces the one with the same view, curve and `leave_out`."""
    if not entries:
        return
    now = datetime.now(UTC).replace(tzinfo=None)
    rows, folds = [], []
    with transaction(connection):
        for fit_id, entry in entries.items():
            key = [entry.view, entry.curve, entry.leave_out]
            condition = "view = ? and curve = ? and leave_out = ?"
            connection.execute(
                f"delete from fit_fold where fit_id in (select fit_id from fit where {condition})",
                key,
            )
            connection.execute(f"delete from fit where {condition}", key)
            figures = {name: getattr(entry, name) for name in FIGURES}
            rows.append(
                figures | {"params": list(entry.params), "fit_id": fit_id, "fitted_at": now}
            )
            folds += [asdict(fold) | {"fit_id": fit_id} for fold in entry.folds]
        insert(connection, "fit", pl.DataFrame(rows, infer_schema_length=None))
        if folds:
            insert(connection, "fit_fold", pl.DataFrame(folds, infer_schema_length=None))


@dataclass(frozen=True)
class BestPrediction:
    """The view and curve that predict unseen networks best."""

    view: str
    curve: str
    held_out_r_squared: float


def best_prediction(
    connection: duckdb.DuckDBPyConnection, leave_out: str = "network"
) -> BestPrediction | None:
    """Return the best that ``ptqdb compare`` stored, or else fit the default of ``predict``.

    Views of probes do not count: they need a run of the quantized network.

    Parameters
    ----------
    leave_out
        ``network`` or ``architecture``.

    Returns
    -------
    None if nothing can be left out, as with a single network.
    """
    stored = query(
        connection,
        "select view, curve, held_out_r_squared::double from fit "
        f"where leave_out = '{leave_out}' and held_out_r_squared is not null "
        "order by held_out_r_squared desc, view, curve",
    )
    for view, name, r_squared in stored.iter_rows():
        if not uses_probe(view):
            return BestPrediction(view, name, r_squared)
    (pool,) = fit_view_frame(
        read_view(connection, PREDICTION_VIEW),
        view=PREDICTION_VIEW,
        curve=PREDICTION_CURVE,
        by=None,
        leave_out_by=leave_out,
    )
    if pool.held_out_r_squared is None:
        return None
    return BestPrediction(PREDICTION_VIEW, PREDICTION_CURVE, pool.held_out_r_squared)
