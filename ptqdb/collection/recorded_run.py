"""Records a run in the database: its planned cells before it starts, and its outcome."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import torch

from ptqdb.collection.plan import Cell, CollectionRequest, NetworkTask
from ptqdb.collection.shared_rows import ensure_formats
from ptqdb.database import checkpoint, next_id, transaction
from ptqdb.errors import DatabaseError
from ptqdb.version import VERSION

SEED = 0
"""For the column ``seed``; nothing in a collection is random."""


@dataclass(frozen=True)
class Failure:
    """A network that could not be collected, with the reason."""

    network: str
    reason: str


@contextmanager
def recorded_run(
    connection: duckdb.DuckDBPyConnection,
    request: CollectionRequest,
    cells: Sequence[Cell],
    failures: Sequence[Failure],
) -> Iterator[None]:
    """Write the run's row before its first cell, and its outcome after the last.

    Parameters
    ----------
    failures
        Failed networks, added by the block. Cells that cannot be evaluated do not count.
    """
    with transaction(connection):
        # this process is the only writer: a run still marked as running was killed
        connection.execute(
            "update collection_run set outcome = 'interrupted' where outcome = 'running'"
        )
        ensure_formats(connection)
        run_id = next_id(connection, "collection_run")
        connection.execute(
            "insert into collection_run by name select ? as run_id, ? as version, "
            "? as arguments, ? as device, ? as seed, ?::timestamp as started_at, "
            "?::struct(network varchar, number_format varchar, scheme varchar, scope varchar)[] "
            "as cells, 'running' as outcome, [] as failures",
            [
                run_id,
                VERSION,
                _arguments(request),
                request.device,
                SEED,
                _now(),
                _announced(cells),
            ],
        )
    checkpoint(connection)
    try:
        yield
    except BaseException as error:
        # If the disk is full, this fails, too; report the first error.
        with suppress(DatabaseError):
            ended = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            _write_outcome(connection, run_id, ended, failures)
        raise
    _write_outcome(connection, run_id, "failed" if failures else "done", failures)


def _write_outcome(
    connection: duckdb.DuckDBPyConnection, run_id: int, ended: str, failures: Sequence[Failure]
) -> None:
    with transaction(connection):
        connection.execute(
            "update collection_run set outcome = ?, ended_at = ?, "
            "failures = ?::struct(network varchar, reason varchar)[] where run_id = ?",
            [ended, _now(), [asdict(failure) for failure in failures], run_id],
        )
    checkpoint(connection)


def _announced(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """The cells as stored in the table: the layers of a network, each alone, are one cell."""
    fields = ("network", "number_format", "scheme", "scope")
    rows = dict.fromkeys(
        (cell.network, cell.format.number_format.name, cell.format.scheme.name, cell.scope)
        for cell in cells
    )
    return [dict(zip(fields, row, strict=True)) for row in rows]


def _arguments(request: CollectionRequest) -> str:
    return json.dumps(
        {
            "networks": [_task_arguments(task) for task in request.tasks],
            "number_formats": [known.name for known in request.number_formats],
            "scopes": request.scopes,
            "schemes": sorted({known.scheme.name for known in request.number_formats}),
            "precision": request.precision,
            "until": request.until,
            "probe": request.probe,
            "sensitivity": request.sensitivity,
            "replace": request.replace,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
    )


def _task_arguments(task: NetworkTask) -> dict[str, Any]:
    """The user's arguments, with file names without folders."""
    source, preprocessing = task.source, task.source.preprocessing
    return {
        "spec": Path(source.spec).name,
        "name": source.name,
        "checkpoint": source.checkpoint and source.checkpoint.name,
        "weights": source.weights,
        "preprocessing": preprocessing and preprocessing.to_dict(),
        "dataset": task.images.name,
        "images": len(task.images),
        "calibration": len(task.calibration),
    }


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
