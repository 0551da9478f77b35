"""Fills a database cell by cell; what was filled before a stop is never filled again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import duckdb
import torch

from ptqdb.collection.checking import checked
from ptqdb.collection.plan import (
    Cell,
    CollectionRequest,
    NetworkPlan,
    plan_network,
)
from ptqdb.collection.recorded_run import Failure, recorded_run
from ptqdb.collection.rows import (
    delete_networks,
    ensure_dataset,
    ensure_scheme,
    layer_ids_of,
    tensor_ids_of,
    write_evaluation,
    write_failed_evaluation,
    write_layer_evaluation,
    write_network,
    write_quantized_tensors,
)
from ptqdb.database import (
    SnapshotPublisher,
    connect,
    file_errors,
    forget_fits,
    materialize,
    read_every_block,
    transaction,
)
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.errors import DataError
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.facts import FailedEvaluation
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.measurement.own_code import is_of_network, one_line, own_errors_as_data_errors
from ptqdb.support.interruption import interrupts_kept


class Reporter(Protocol):
    """Receives how a collection goes on."""

    def planned(self, cell_count: int, present_count: int) -> None:
        """So many cells are to be filled; so many were there already."""

    def weighed(self, network: str, cell_count: int, work: float | None) -> None:
        """A network has so many of the cells, each of so much work; None where that is unknown.

        The unit is the same for all networks. Comes before the first network is prepared, once
        for each.
        """

    def preparing(self, network: str) -> None:
        """A network is loaded and calibrated."""

    def prepared(self, network: str, cell_count: int) -> None:
        """The cells of a network follow, so many: now its layers are known."""

    def filled(self, cell: Cell) -> None:
        """A cell is committed: its evaluation, or why there is none."""

    def remarked(self, text: str) -> None:
        """Something that a user should know."""


class Silent:
    """A reporter that says nothing."""

    def planned(self, cell_count: int, present_count: int) -> None:
        """Keep quiet."""

    def weighed(self, network: str, cell_count: int, work: float | None) -> None:
        """Keep quiet."""

    def preparing(self, network: str) -> None:
        """Keep quiet."""

    def prepared(self, network: str, cell_count: int) -> None:
        """Keep quiet."""

    def filled(self, cell: Cell) -> None:
        """Keep quiet."""

    def remarked(self, text: str) -> None:
        """Keep quiet."""


@dataclass
class CollectionOutcome:
    """What a collection did.

    Attributes
    ----------
    filled_count, present_count
        Cells that were evaluated now, and earlier.
    failed_count
        Cells that cannot be evaluated, since the network's own code fails in that format: the
        database says so, now or since an earlier run.
    failures
        Networks that could not be collected.
    """

    filled_count: int = 0
    present_count: int = 0
    failed_count: int = 0
    failures: list[Failure] = field(default_factory=list)


def collect(
    request: CollectionRequest, database: Path, reporter: Reporter, *, wait_s: float = 0.0
) -> CollectionOutcome:
    """Fill every missing cell of the request.

    Each cell is one transaction. A network that fails is recorded, and the others go on. A cell
    in which the network's own code fails is recorded as such, and the next cell goes on; the
    run is done all the same, for the facts say what the format does to the network. While it
    goes on, others read the snapshot that is published before each network.

    Parameters
    ----------
    wait_s
        For how many seconds to wait for another process to close the file.

    Raises
    ------
    MismatchError
        The database holds one of the networks with other arguments; nothing was written.
    DatabaseError
        The file cannot be opened for writing, is damaged, or cannot be written.
    KeyboardInterrupt
        After the run's outcome has been recorded.
    """
    outcome = CollectionOutcome()
    connection = connect(database, read_only=False, wait_s=wait_s, remarked=reporter.remarked)
    # Left in reverse: the connection is closed before the publisher, and errors are put in words
    # while it is open.
    with (
        SnapshotPublisher(database, reporter.remarked) as publisher,
        connection,
        file_errors(connection),
    ):
        plans = _plans(connection, request, outcome)
        cells = [cell for plan in plans for cell in plan.cells]
        outcome.present_count = sum(plan.present_count for plan in plans)
        reporter.planned(sum(plan.cell_count for plan in plans), outcome.present_count)
        for plan in plans:
            if plan.cells:
                work = None if plan.work is None else plan.work * len(plan.task.images)
                reporter.weighed(plan.task.name, plan.cell_count, work)
        for failure in outcome.failures:
            reporter.remarked(f"{failure.network} failed: {failure.reason}")
        for plan in plans:
            _tell_known_failures(plan, outcome, reporter)
        is_changed = request.replace or not all(plan.is_complete for plan in plans)
        if is_changed:
            read_every_block(connection)  # a damaged one is found before anything is written
        recorded = recorded_run(connection, request, cells, outcome.failures)
        # Within, so that an interruption is recorded as one; around, for the recording itself.
        with interrupts_kept(), recorded, interrupts_kept():
            if request.replace or any(plan.changes_views for plan in plans):
                forget_fits(connection)
            if request.replace:
                _delete(connection, [plan.task.name for plan in plans])
            for plan in plans:
                if not plan.is_complete:
                    publisher.publish(connection)
                    _collect_or_record(connection, request, plan, outcome, reporter)
            if all(plan.is_complete for plan in plans):
                materialize(connection, reporter.remarked)  # what an upgrade made stale
    return outcome


def _plans(
    connection: duckdb.DuckDBPyConnection, request: CollectionRequest, outcome: CollectionOutcome
) -> list[NetworkPlan]:
    """A plan for each network that can be loaded and fits its images; the others are recorded."""
    plans = []
    for task in request.tasks:
        try:
            with interrupts_kept(), own_errors_as_data_errors():
                plan = plan_network(connection, request, task)
                if plan.cells or plan.is_new:
                    plan = checked(plan)
                plans.append(plan)
        except DataError as error:
            outcome.failures.append(Failure(task.name, str(error)))
    return plans


def _tell_known_failures(plan: NetworkPlan, outcome: CollectionOutcome, reporter: Reporter) -> None:
    """Count the cells that are known to fail, and say that they are not tried again."""
    if plan.failed:
        outcome.failed_count += len(plan.failed)
        names = ", ".join(cell.label for cell in plan.failed)
        reporter.remarked(
            f"{plan.task.name} cannot be evaluated in {names}, as recorded earlier; "
            "--replace collects it anew"
        )


def _delete(connection: duckdb.DuckDBPyConnection, names: list[str]) -> None:
    with transaction(connection):
        delete_networks(connection, names)


def _collect_or_record(
    connection: duckdb.DuckDBPyConnection,
    request: CollectionRequest,
    plan: NetworkPlan,
    outcome: CollectionOutcome,
    reporter: Reporter,
) -> None:
    """Collect one network; whatever goes wrong in it is recorded and told."""
    name = plan.task.name
    try:
        with interrupts_kept():
            if plan.cells or plan.is_new:
                _collect_network(connection, request, plan, outcome, reporter)
    except BaseException as error:  # a network's own code may raise anything
        if isinstance(error, duckdb.Error) or not is_of_network(error):
            raise
        reason = one_line(error)
        outcome.failures.append(Failure(name, reason))
        reporter.remarked(f"{name} failed: {reason}")
    materialize(connection, reporter.remarked)


def _collect_network(
    connection: duckdb.DuckDBPyConnection,
    request: CollectionRequest,
    plan: NetworkPlan,
    outcome: CollectionOutcome,
    reporter: Reporter,
) -> None:
    """Measure and write a network's float facts if they are missing, then its cells."""
    reporter.preparing(plan.task.name)
    measurement, preprocessing = _measured(request, plan, reporter)
    try:
        with interrupts_kept():
            evaluation = NetworkEvaluation(
                measurement.network,
                plan.task.images,
                preprocessing,
                device=torch.device(request.device),
                precision=request.precision,
            )
            facts = measurement.float_facts() if plan.is_new else None
        if facts is not None:
            with transaction(connection):
                dataset_id = _ensure(connection, plan.task.images)
                calibration_id = _ensure(connection, plan.task.calibration)
                write_network(connection, facts, dataset_id, calibration_id, evaluation.of_float())
        plan = plan.with_layers(list(measurement.network.layers))
        reporter.prepared(plan.task.name, plan.cell_count)
        for _, cells in groupby(plan.cells, key=lambda cell: cell.number_format):
            _collect_format(
                connection, request, measurement, evaluation, list(cells), outcome, reporter
            )
    finally:
        measurement.network.release()


@interrupts_kept()
def _measured(
    request: CollectionRequest, plan: NetworkPlan, reporter: Reporter
) -> tuple[NetworkMeasurement, Preprocessing]:
    """The network calibrated, and how it is fed.

    A Ctrl-C of which a library made an error may have passed for a failure of the network and
    decided what stays in float: it ends this before anything is written.
    """
    trained = plan.task.source.load()
    for remark in trained.remarks:
        reporter.remarked(f"{trained.name}: {remark}")
    measurement = NetworkMeasurement(
        trained,
        plan.task.calibration,
        list(dict.fromkeys(cell.number_format for cell in plan.cells)),
        request.scheme,
        device=torch.device(request.device),
    )
    for remark in measurement.remarks:
        reporter.remarked(f"{plan.task.name}: {remark}")
    # without the network itself: the measurement has the folded weights
    return measurement, trained.preprocessing


def _ensure(connection: duckdb.DuckDBPyConnection, images: ImageSet) -> int:
    return ensure_dataset(
        connection,
        name=images.name,
        split=images.split,
        class_count=len(images.class_names),
        image_count=len(images),
        content_sha256=images.content_sha256,
    )


def _collect_format(
    connection: duckdb.DuckDBPyConnection,
    request: CollectionRequest,
    measurement: NetworkMeasurement,
    evaluation: NetworkEvaluation,
    cells: Sequence[Cell],
    outcome: CollectionOutcome,
    reporter: Reporter,
) -> None:
    """Fill the cells of one network in one format; the first also brings the tensors' facts."""
    network_id, number_format_id = _ids(connection, cells[0])
    number_format = cells[0].number_format
    with interrupts_kept():
        coded = measurement.code(number_format)
    layer_ids = layer_ids_of(connection, network_id)
    for cell in cells:
        chosen = coded if cell.layer is None else {cell.layer: coded[cell.layer]}
        found = evaluation.of_codes(chosen, number_format, cell.scope)
        with transaction(connection):
            scheme_id = ensure_scheme(connection, request.scheme)
            if not _has_facts(connection, network_id, number_format_id, scheme_id):
                write_quantized_tensors(
                    connection,
                    tensor_ids_of(connection, network_id),
                    number_format_id,
                    scheme_id,
                    measurement.quantized_facts(coded, number_format),
                )
            ids = (network_id, number_format_id, scheme_id)
            if cell.layer is not None:
                write_layer_evaluation(connection, layer_ids[cell.layer], *ids[1:], found)
            elif isinstance(found, FailedEvaluation):
                write_failed_evaluation(connection, *ids, cell.scope, found)
            else:
                write_evaluation(connection, *ids, cell.scope, found)
        if isinstance(found, FailedEvaluation):
            outcome.failed_count += 1
            place = f"after layer {found.layer} started: " if found.layer else ""
            reporter.remarked(
                f"{cell.network} cannot be evaluated in {cell.label}: {place}{found.reason}"
            )
        else:
            outcome.filled_count += 1
        reporter.filled(cell)


def _ids(connection: duckdb.DuckDBPyConnection, cell: Cell) -> tuple[int, int]:
    row = connection.execute(
        "select n.network_id, f.number_format_id from network as n, number_format as f "
        "where n.name = ? and f.name = ?",
        [cell.network, cell.number_format.name],
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _has_facts(
    connection: duckdb.DuckDBPyConnection, network_id: int, number_format_id: int, scheme_id: int
) -> bool:
    found = connection.execute(
        "select 1 from quantized_tensor as q join tensor as t using (tensor_id) "
        "join layer as l using (layer_id) where l.network_id = ? "
        "and q.number_format_id = ? and q.scheme_id = ? limit 1",
        [network_id, number_format_id, scheme_id],
    )
    return found.fetchone() is not None
