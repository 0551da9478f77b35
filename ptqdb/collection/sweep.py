"""Fills a database cell by cell; an interrupted collection resumes at the missing cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import duckdb
import torch

from ptqdb.collection.checking import check_plan
from ptqdb.collection.plan import (
    Cell,
    CollectionRequest,
    NetworkPlan,
    plan_network,
)
from ptqdb.collection.recorded_run import Failure, recorded_run
from ptqdb.collection.reporting import Reporter
from ptqdb.collection.rows import (
    delete_networks,
    read_layer_ids,
    read_tensor_ids,
    write_evaluation,
    write_failed_evaluation,
    write_float_images,
    write_layer_evaluation,
    write_network,
    write_probe,
    write_quantized_checkpoint,
    write_quantized_tensors,
    write_sensitivities,
)
from ptqdb.collection.shared_rows import ensure_dataset, ensure_format, ensure_scheme
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
from ptqdb.measurement.facts import EvaluationFacts, FailedEvaluation, ProbeFacts
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.measurement.own_code import is_of_network, one_line, own_errors_as_data_errors
from ptqdb.measurement.probe import NetworkProbe
from ptqdb.measurement.sensitivity import layer_sensitivities
from ptqdb.support.interruption import keep_interrupts


@dataclass
class CollectionOutcome:
    """The outcome of a collection.

    Attributes
    ----------
    filled_count, present_count
        Numbers of cells evaluated or probed now, and complete earlier.
    evaluated_count
        Number of cells evaluated now: those filled, without those that lacked only their probe.
    image_count
        Number of images evaluated for the cells evaluated now, the same image once per cell.
    failed_count
        Number of cells that cannot be evaluated because the network's own code fails in that
        format, recorded now or by an earlier run.
    failures
        Networks that could not be collected.
    """

    filled_count: int = 0
    present_count: int = 0
    evaluated_count: int = 0
    image_count: int = 0
    failed_count: int = 0
    failures: list[Failure] = field(default_factory=list)


def collect(
    request: CollectionRequest, database: Path, reporter: Reporter, *, wait_s: float = 0.0
) -> CollectionOutcome:
    """Fill every missing cell of the request.

    Each cell is one transaction. If a network fails, this is recorded and the others continue.
    If the network's own code fails in a cell, this is recorded and the next cell continues; the
    run still counts as done, since such a failure is a property of network and format. Meanwhile,
    other processes read the snapshot that is published before each network.

    Parameters
    ----------
    wait_s
        Seconds to wait for another process to close the file.

    Raises
    ------
    MismatchError
        The database has one of the networks with other arguments; nothing was written.
    DatabaseError
        The file cannot be opened for writing, is damaged, or cannot be written.
    KeyboardInterrupt
        After the run's outcome has been recorded.
    """
    outcome = CollectionOutcome()
    connection = connect(database, read_only=False, wait_s=wait_s, remarked=reporter.remarked)
    # Contexts exit in reverse: errors are converted while the connection is open, and it is closed
    # before the publisher.
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
            read_every_block(connection)  # detect damage before writing anything
        recorded = recorded_run(connection, request, cells, outcome.failures)
        # The inner one records an interruption as such; the outer one protects the recording.
        with keep_interrupts(), recorded, keep_interrupts():
            if request.replace or any(plan.changes_views for plan in plans):
                forget_fits(connection)
            if request.replace:
                _delete(connection, [plan.task.name for plan in plans])
            for plan in plans:
                if not plan.is_complete:
                    publisher.publish(connection)
                    _collect_or_record(connection, request, plan, outcome, reporter)
            if all(plan.is_complete for plan in plans):
                materialize(connection, reporter.remarked)  # tables made stale by an upgrade
    return outcome


def _plans(
    connection: duckdb.DuckDBPyConnection, request: CollectionRequest, outcome: CollectionOutcome
) -> list[NetworkPlan]:
    """Plan each network that can be loaded and fits its images; record the others as failures."""
    plans = []
    for task in request.tasks:
        try:
            with keep_interrupts(), own_errors_as_data_errors():
                plan = plan_network(connection, request, task)
                if plan.cells or plan.is_new:
                    plan = check_plan(plan)
                plans.append(plan)
        except DataError as error:
            outcome.failures.append(Failure(task.name, str(error)))
    return plans


def _tell_known_failures(plan: NetworkPlan, outcome: CollectionOutcome, reporter: Reporter) -> None:
    """Count the cells known to fail, and report that they are not tried again."""
    if plan.failed:
        outcome.failed_count += len(plan.failed)
        names = ", ".join(cell.label for cell in plan.failed)
        reporter.remarked(
            f"{plan.task.name} cannot be evaluated in {names}, as recorded earlier; "
            "--replace collects it again"
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
    """Collect one network; record and report its failure, if any."""
    name = plan.task.name
    try:
        with keep_interrupts():
            if not plan.is_complete:
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
    with_trained = plan.is_new or _has_trained_tensors(connection, plan.task.name)
    measurement, preprocessing = _measured(request, plan, reporter, with_trained=with_trained)
    try:
        with keep_interrupts():
            runs = _prepared_runs(request, plan, measurement, preprocessing)
            facts = measurement.float_facts() if plan.is_new else None
        if facts is not None and runs.evaluation is not None:
            with transaction(connection):
                dataset_id = _ensure(connection, plan.task.images)
                calibration_id = _ensure(connection, plan.task.calibration)
                float_facts = runs.evaluation.of_float()
                write_network(connection, facts, dataset_id, calibration_id, float_facts)
        elif runs.evaluation is not None:
            known = _knows_float_images(connection, plan.task.name, runs.evaluation)
            if not known and runs.until is not None:
                runs = replace(runs, until=None)
                reporter.remarked(
                    f"{plan.task.name}: evaluating all images, since the stored evaluation in "
                    "floating point does not tell which ones are correct and this machine finds "
                    "another number; --replace collects the network again"
                )
        if plan.lacks_sensitivity:
            _collect_sensitivity(connection, request, plan, measurement, preprocessing, reporter)
        plan = plan.with_layers(list(measurement.network.layers))
        reporter.prepared(plan.task.name, plan.cell_count)
        for _, cells in groupby(plan.cells, key=lambda cell: cell.format):
            _collect_format(connection, plan, measurement, runs, list(cells), outcome, reporter)
    finally:
        measurement.network.release()


def _collect_sensitivity(
    connection: duckdb.DuckDBPyConnection,
    request: CollectionRequest,
    plan: NetworkPlan,
    measurement: NetworkMeasurement,
    preprocessing: Preprocessing,
    reporter: Reporter,
) -> None:
    """Measure and write the sensitivity of a network's layers, or remark that it has none."""
    name, device = plan.task.name, torch.device(request.device)
    try:
        with keep_interrupts():
            found = layer_sensitivities(
                measurement.network, plan.task.calibration, preprocessing, device=device
            )
    except DataError as error:
        reporter.remarked(f"{name}: the sensitivity of its layers is unknown: {error}")
        return
    with transaction(connection):
        rows = connection.execute("select network_id from network where name = ?", [name])
        ((network_id,),) = rows.fetchall()
        write_sensitivities(connection, read_layer_ids(connection, network_id), found)


@dataclass(frozen=True, eq=False)
class _Runs:
    """The ways in which a prepared network is run.

    Attributes
    ----------
    evaluation
        On the labelled images; None if all cells are evaluated.
    probe
        On the first calibration images; None if no probe is missing.
    evaluated
        The cells that lack only their probe.
    until
        As in `CollectionRequest`.
    """

    evaluation: NetworkEvaluation | None
    probe: NetworkProbe | None
    evaluated: frozenset[Cell]
    until: float | None


def _prepared_runs(
    request: CollectionRequest,
    plan: NetworkPlan,
    measurement: NetworkMeasurement,
    preprocessing: Preprocessing,
) -> _Runs:
    device = torch.device(request.device)
    evaluation, probe = None, None
    if plan.is_new or not plan.evaluated.issuperset(plan.cells):
        evaluation = NetworkEvaluation(
            measurement.network,
            plan.task.images,
            preprocessing,
            device=device,
            precision=request.precision,
        )
    if request.probe and any(cell.scope == "all" for cell in plan.cells):
        probe = NetworkProbe(
            measurement.network,
            plan.task.calibration,
            preprocessing,
            request.probe_count(plan.task),
            device=device,
            precision=request.precision,
        )
    return _Runs(evaluation, probe, plan.evaluated, request.until)


@keep_interrupts()
def _measured(
    request: CollectionRequest, plan: NetworkPlan, reporter: Reporter, *, with_trained: bool
) -> tuple[NetworkMeasurement, Preprocessing]:
    """Return the calibrated network and its preprocessing.

    A library may turn Ctrl-C into an error, which would look like a failure of the network and
    decide what stays in float; so a Ctrl-C ends this before anything is written.
    """
    trained = plan.task.source.load()
    for remark in trained.remarks:
        reporter.remarked(f"{trained.name}: {remark}")
    wanted = list(dict.fromkeys(cell.format for cell in plan.cells))
    quantized = {each.format: each for each in plan.task.quantized}
    measurement = NetworkMeasurement(
        trained,
        plan.task.calibration,
        [known for known in wanted if known not in quantized],
        device=torch.device(request.device),
        with_trained=with_trained,
        quantized={
            known: each.load(plan.task.source)
            for known, each in quantized.items()
            if known in wanted
        },
    )
    for remark in measurement.remarks:
        reporter.remarked(f"{plan.task.name}: {remark}")
    # drop the network itself: the measurement has the folded weights
    return measurement, trained.preprocessing


def _has_trained_tensors(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether a stored network has its tensors as trained; older versions did not measure them."""
    row = connection.execute(
        "select bool_and(l.is_folded is not null) from layer as l "
        "join network as n using (network_id) where n.name = ?",
        [name],
    ).fetchone()
    return bool(row and row[0])


def _knows_float_images(
    connection: duckdb.DuckDBPyConnection, name: str, evaluation: NetworkEvaluation
) -> bool:
    """Compare cells with the stored float network; return whether it tells its correct images.

    An older version stored only their number; if it is the same here, the images are added.
    """
    row = connection.execute(
        "select network_id, e.correct_images, e.correct_top1, e.same_prediction "
        "from evaluation as e join network as n using (network_id) "
        "where n.name = ? and e.scope = 'none'",
        [name],
    ).fetchone()
    if row is None:
        return False
    network_id, correct_images, *counts = row
    if correct_images is not None:
        evaluation.compare_with(correct_images)
        return True
    facts = evaluation.of_float()
    if [facts.correct_top1, facts.same_prediction] != counts:
        return False
    with transaction(connection):
        write_float_images(connection, network_id, facts)
    return True


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
    plan: NetworkPlan,
    measurement: NetworkMeasurement,
    runs: _Runs,
    cells: Sequence[Cell],
    outcome: CollectionOutcome,
    reporter: Reporter,
) -> None:
    """Fill the cells of one network in one format; the first also writes the tensors' facts."""
    known = cells[0].format
    try:
        with keep_interrupts():
            coded = measurement.code(known)
    except DataError as error:  # other formats may fit these weights
        outcome.failures.append(Failure(plan.task.name, f"{known.name}: {error}"))
        reporter.remarked(f"{plan.task.name} cannot be quantized in {known.name}: {error}")
        return
    with transaction(connection):
        number_format_id = ensure_format(connection, known.number_format)
        scheme_id = ensure_scheme(connection, known.scheme)
        network_id = _network_id(connection, plan.task.name)
        for each in plan.task.quantized:
            if each.format == known:
                write_quantized_checkpoint(connection, network_id, scheme_id, each.sha256)
    layer_ids = read_layer_ids(connection, network_id)
    for cell in cells:
        chosen = coded if cell.layer is None else {cell.layer: coded[cell.layer]}
        found: EvaluationFacts | FailedEvaluation | None = None
        if runs.evaluation is not None and cell not in runs.evaluated:
            found = runs.evaluation.of_codes(chosen, known, cell.scope, runs.until)
        probed: ProbeFacts | FailedEvaluation | None = None
        fails = isinstance(found, FailedEvaluation)
        if runs.probe is not None and cell.scope == "all" and not fails:
            probed = runs.probe.of_codes(coded, known)
        with transaction(connection):
            if not _has_facts(connection, network_id, number_format_id, scheme_id):
                write_quantized_tensors(
                    connection,
                    read_tensor_ids(connection, network_id),
                    number_format_id,
                    scheme_id,
                    measurement.quantized_facts(coded, known),
                )
            ids = (network_id, number_format_id, scheme_id)
            if found is None:
                pass
            elif cell.layer is not None:
                write_layer_evaluation(connection, layer_ids[cell.layer], *ids[1:], found)
            elif isinstance(found, FailedEvaluation):
                write_failed_evaluation(connection, *ids, cell.scope, found)
            else:
                write_evaluation(connection, *ids, cell.scope, found)
            if isinstance(probed, ProbeFacts):
                write_probe(connection, *ids, probed)
        for verb, result in (("evaluated", found), ("probed", probed)):
            if isinstance(result, FailedEvaluation):
                place = f"after layer {result.layer} started: " if result.layer else ""
                reporter.remarked(
                    f"{cell.network} cannot be {verb} in {cell.label}: {place}{result.reason}"
                )
        if isinstance(found, EvaluationFacts):
            outcome.evaluated_count += 1
            outcome.image_count += found.image_count
        if isinstance(found, FailedEvaluation) or isinstance(probed, FailedEvaluation):
            outcome.failed_count += 1
        else:
            outcome.filled_count += 1
        reporter.filled(cell)


def _network_id(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    row = connection.execute("select network_id from network where name = ?", [name]).fetchone()
    assert row is not None
    return int(row[0])


def _has_facts(
    connection: duckdb.DuckDBPyConnection, network_id: int, number_format_id: int, scheme_id: int
) -> bool:
    found = connection.execute(
        "select 1 from (select tensor_id, number_format_id, scheme_id from quantized_tensor "
        "union all select tensor_id, number_format_id, scheme_id from dequantized_tensor) as q "
        "join tensor as t using (tensor_id) join layer as l using (layer_id) "
        "where l.network_id = ? and q.number_format_id = ? and q.scheme_id = ? limit 1",
        [network_id, number_format_id, scheme_id],
    )
    return found.fetchone() is not None
