"""Keeps the entries of the leaderboard in the tables ``fit`` and ``fit_fold``."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import duckdb
import polars as pl

from ptqdb.database import insert, next_id, query, transaction
from ptqdb.leaderboard import FIGURES, Entry, Task
from ptqdb.validation import Fold


def stored_entries(
    connection: duckdb.DuckDBPyConnection, tasks: Sequence[Task]
) -> dict[int, Entry]:
    """The entries that are there already and still true, by the place of their task."""
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


def store_entries(connection: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> None:
    """Write entries, each in the place of the one of the same view, curve and left-out column."""
    if not entries:
        return
    with transaction(connection):
        for entry in entries:
            key = [entry.view, entry.curve, entry.leave_out]
            condition = "view = ? and curve = ? and leave_out = ?"
            connection.execute(
                f"delete from fit_fold where fit_id in (select fit_id from fit where {condition})",
                key,
            )
            connection.execute(f"delete from fit where {condition}", key)
        first = next_id(connection, "fit")
        now = datetime.now(UTC).replace(tzinfo=None)
        rows, folds = [], []
        for fit_id, entry in enumerate(entries, start=first):
            figures = {name: getattr(entry, name) for name in FIGURES}
            rows.append(
                figures | {"params": list(entry.params), "fit_id": fit_id, "fitted_at": now}
            )
            folds += [asdict(fold) | {"fit_id": fit_id} for fold in entry.folds]
        insert(connection, "fit", pl.DataFrame(rows, infer_schema_length=None))
        if folds:
            insert(connection, "fit_fold", pl.DataFrame(folds, infer_schema_length=None))
