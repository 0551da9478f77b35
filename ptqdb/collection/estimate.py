"""What a collection would do, and about how long it would take, without writing anything."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ptqdb.collection.checking import checked
from ptqdb.collection.plan import Cell, CollectionRequest, NetworkPlan, plan_network
from ptqdb.database import IN_MEMORY, connect, connect_reader
from ptqdb.errors import DataError
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.measurement.own_code import own_errors_as_data_errors
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.support.paths import is_there

SAMPLE_COUNT = 100
"""Images that are measured; more would tell little more."""


@dataclass(frozen=True)
class Preview:
    """What would be done for one network.

    Attributes
    ----------
    present
        Number of cells that are there already, evaluated or with the record that they cannot be.
    missing
        The cells that would be filled.
    layer_count
        Quantized layers of the network; 0 where they are not known.
    seconds
        An estimate; 0 where nothing is to be done.
    failure
        Why nothing could be done, or None.
    """

    network: str
    dataset: str
    image_count: int
    calibration_count: int
    present: int
    missing: tuple[Cell, ...]
    layer_count: int
    seconds: float | None
    failure: str | None = None


def preview(
    request: CollectionRequest, database: Path, remarked: Callable[[str], None]
) -> list[Preview]:
    """What would be done for each network of a request.

    The time is extrapolated from up to 100 images of each network in three formats, measured
    here and now.

    Parameters
    ----------
    remarked
        Receives a line where another collection writes the file and its snapshot is read.

    Raises
    ------
    MismatchError
        The database holds one of the networks with other arguments.
    DatabaseError
        The file is there and cannot be read.
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
                    plan = checked(plan_network(connection, request, task))
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
        layer_count=plan.layer_count,
        seconds=0.0,
    )


def _measured(request: CollectionRequest, plan: NetworkPlan) -> tuple[NetworkPlan, float]:
    """The plan with its layers, and the seconds that it takes.

    They are those of a few cells on a few images, times how many there are of each.
    """
    task = plan.task
    images = task.images.head(min(SAMPLE_COUNT, len(task.images)))
    calibration = task.calibration.head(min(SAMPLE_COUNT, len(task.calibration)))
    asked = list(dict.fromkeys(cell.number_format for cell in plan.cells))
    sample = _one_per_family(asked)
    started = time.perf_counter()
    trained, device = task.source.load(), torch.device(request.device)
    measurement = NetworkMeasurement(trained, calibration, sample, request.scheme, device=device)
    plan = plan.with_layers(list(measurement.network.layers))
    # Whatever is quantized alone is computed in float32: see NetworkEvaluation.of_codes.
    alone_count = sum(cell.scope != "all" for cell in plan.cells)
    evaluation = NetworkEvaluation(
        measurement.network,
        images,
        trained.preprocessing,
        device=device,
        precision="float32" if 2 * alone_count > len(plan.cells) else request.precision,
    )
    calibrated = time.perf_counter()
    # the first pass over codes pays for fresh memory
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
    cells = len(plan.cells) / len(sample)
    seconds = (
        calibrated_s * formats
        + coded_s * formats
        + evaluated_s * cells * len(task.images) / len(images)
    )
    return plan, seconds


def _one_per_family(asked: Sequence[NumberFormat]) -> list[NumberFormat]:
    """Of each family among the formats, the one of median width."""
    families: dict[str, list[NumberFormat]] = {}
    for known in asked:
        families.setdefault(known.family, []).append(known)
    return [members[len(members) // 2] for members in families.values()]
