"""Previews a collection and estimates its time, without writing anything."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ptqdb.collection.checking import check_plan
from ptqdb.collection.plan import Cell, CollectionRequest, NetworkPlan, plan_network
from ptqdb.database import IN_MEMORY, connect, connect_reader
from ptqdb.errors import DataError
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.measurement.own_code import own_errors_as_data_errors
from ptqdb.quantization.formats import Format
from ptqdb.support.paths import is_there

SAMPLE_COUNT = 100
"""Number of images for timing; more would hardly improve the estimate."""


@dataclass(frozen=True)
class Preview:
    """The preview of a collection for one network.

    Attributes
    ----------
    present
        Number of existing cells, evaluated or recorded as failing.
    missing
        The cells to fill.
    evaluated_count
        Those of them that lack only their probe.
    layer_count
        Number of quantized layers; 0 if unknown.
    seconds
        Estimated time; 0 if there is nothing to do.
    failure
        Why the network would fail, or None.
    """

    network: str
    dataset: str
    image_count: int
    calibration_count: int
    present: int
    missing: tuple[Cell, ...]
    layer_count: int
    seconds: float | None
    evaluated_count: int = 0
    failure: str | None = None


def preview(
    request: CollectionRequest, database: Path, remarked: Callable[[str], None]
) -> list[Preview]:
    """Preview the collection for each network of a request.

    The time is extrapolated from a measurement on this machine: up to 100 images per network, in
    three formats.

    Parameters
    ----------
    remarked
        Receives a line if another collection writes the file and its snapshot is read instead.

    Raises
    ------
    MismatchError
        The database has one of the networks with other arguments.
    DatabaseError
        The file exists and cannot be read.
    """
    if is_there(database):
        connection, snapshot = connect_reader(database)
        if snapshot is not None:
            remarked(str(snapshot))
    else:
        connection = connect(IN_MEMORY, read_only=False)
    previews = []
    try:
        for task in request.tasks:
            shown = Preview(
                task.name,
                f"{task.images.name} {task.images.split}",
                len(task.images),
                len(task.calibration),
                present=0,
                missing=(),
                layer_count=0,
                seconds=None,
            )
            try:
                with own_errors_as_data_errors():
                    plan = check_plan(plan_network(connection, request, task))
                    shown = _with_plan(shown, plan)
                    if plan.cells:
                        plan, seconds = _measured(request, plan)
                        shown = replace(_with_plan(shown, plan), seconds=seconds)
            except DataError as error:
                shown = replace(shown, failure=str(error))
            previews.append(shown)
    finally:
        connection.close()
    return previews


def _with_plan(shown: Preview, plan: NetworkPlan) -> Preview:
    return replace(
        shown,
        present=plan.present_count + len(plan.failed),
        missing=plan.cells,
        evaluated_count=len(plan.evaluated),
        layer_count=plan.layer_count,
        seconds=0.0,
    )


def _measured(request: CollectionRequest, plan: NetworkPlan) -> tuple[NetworkPlan, float]:
    """The plan with its layers, and its estimated time in seconds.

    The time of a few cells on a few images is scaled to their numbers.
    """
    task = plan.task
    images = task.images.head(min(SAMPLE_COUNT, len(task.images)))
    calibration = task.calibration.head(min(SAMPLE_COUNT, len(task.calibration)))
    asked = list(dict.fromkeys(cell.format for cell in plan.cells))
    sample = _one_per_family(asked)
    started = time.perf_counter()
    trained, device = task.source.load(), torch.device(request.device)
    measurement = NetworkMeasurement(trained, calibration, sample, device=device)
    plan = plan.with_layers(list(measurement.network.layers))
    # Scopes other than "all" are computed in float32: see NetworkEvaluation.of_codes.
    alone_count = sum(cell.scope != "all" for cell in plan.cells)
    evaluation = NetworkEvaluation(
        measurement.network,
        images,
        trained.preprocessing,
        device=device,
        precision="float32" if 2 * alone_count > len(plan.cells) else request.precision,
    )
    calibrated = time.perf_counter()
    # warm up: the first pass over codes allocates memory
    evaluation.of_codes(measurement.code(sample[0]), sample[0], "all")
    coded_s = evaluated_s = 0.0
    for known in sample:
        begun = time.perf_counter()
        coded = measurement.code(known)
        measurement.quantized_facts(coded, known)
        middle = time.perf_counter()
        evaluation.of_codes(coded, known, "all")
        coded_s += middle - begun
        evaluated_s += time.perf_counter() - middle
    calibrated_s = (calibrated - started) * len(task.calibration) / len(calibration)
    formats = len(asked) / len(sample)
    probed = sum(cell.scope == "all" for cell in plan.cells)
    image_count = (len(plan.cells) - len(plan.evaluated)) * len(task.images)
    image_count += probed * request.probe_count(task)
    seconds = (
        calibrated_s * formats
        + coded_s * formats
        + evaluated_s / len(sample) * image_count / len(images)
    )
    return plan, seconds


def _one_per_family(asked: Sequence[Format]) -> list[Format]:
    """Select the middle format of each family, of the study's scheme and of all others."""
    families: dict[object, list[Format]] = {}
    for known in asked:
        key = (known.number_format.family, known.scheme.is_of_study)
        families.setdefault(key, []).append(known)
    return [members[len(members) // 2] for members in families.values()]
