"""A collection's wall time over its floor, and where it goes."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floor import Floor, FloorTimer
from sampling import CALIBRATION, DATABASE, EVALUATION, FACTS, FLOAT, OPENING, PHASES, PhaseSampler
from workload import (
    evenly_chosen,
    progress,
    random_module,
    random_network,
    request_of,
    seconds_of,
)

from ptqdb.collection.plan import CollectionRequest
from ptqdb.collection.reporting import Silent
from ptqdb.collection.sweep import collect
from ptqdb.quantization.number_formats import STUDY_GRID

NETWORKS = ("AlexNet", "VGG_16", "ResNet_18", "MobileNetV2", "Inception_BN")
TARGETS = {
    "AlexNet": 0.75,
    "VGG_16": 0.75,
    "ResNet_18": 0.75,
    "MobileNetV2": 1.2,
    "Inception_BN": 0.95,
}
STUDY_IMAGES, STUDY_CALIBRATION = 10_000, 1_024


@dataclass(frozen=True)
class Size:
    """How much is collected."""

    image_count: int
    calibration_count: int
    format_count: int


STUDY = Size(STUDY_IMAGES, STUDY_CALIBRATION, len(STUDY_GRID))


@dataclass(frozen=True)
class SweepTiming:
    """One network's collections beside their floor.

    Attributes
    ----------
    seconds
        Of each run.
    floor
        Medians of the passes before, between and after the runs.
    phases
        Of the run of median time, by phase.
    """

    network: str
    size: Size
    seconds: tuple[float, ...]
    floor: Floor
    phases: dict[str, float]

    @property
    def sweep_s(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Wall times over the floor."""
        return tuple(seconds / self.floor.total_s for seconds in self.seconds)

    def seconds_at(self, size: Size) -> dict[str, float]:
        """The phases of a collection of another size, each taken as proportional.

        Evaluation to formats and images, facts and what is written of them to formats,
        calibration to its images and the formats (which overstates it: a part does not grow with
        the formats), the float network's to images, the others to nothing.
        """
        images = size.image_count / self.size.image_count
        formats = size.format_count / self.size.format_count
        calibration = size.calibration_count / self.size.calibration_count
        grown = dict(self.phases)
        grown[EVALUATION] *= images * formats
        grown[FACTS] *= formats
        grown[DATABASE] *= formats
        grown[CALIBRATION] *= calibration * formats
        grown[FLOAT] *= images
        return grown

    def floor_at(self, size: Size) -> float:
        """The floor of another size: proportional to images and formats."""
        grown = size.image_count * size.format_count
        return self.floor.total_s * grown / (self.size.image_count * self.size.format_count)

    def ratio_at(self, size: Size) -> float:
        """The estimate of the ratio for another size."""
        return sum(self.seconds_at(size).values()) / self.floor_at(size)


def database_share(phases: dict[str, float]) -> float:
    """Share of the database in the wall time."""
    return (phases[DATABASE] + phases[OPENING]) / sum(phases.values())


def sweep_timing(network: str, size: Size, repeats: int) -> SweepTiming:
    """Collect into a fresh file, and time the floor before and after each collection."""
    formats = evenly_chosen(size.format_count)
    progress(f"sweep of {network}: looking for the fastest pass")
    timer = FloorTimer(random_module(network), size.image_count, formats)
    request = request_of(
        [random_network(network)], formats, size.image_count, size.calibration_count
    )
    runs: list[tuple[float, dict[str, float]]] = []
    timer.time()
    for run in range(1, repeats + 1):
        progress(f"sweep of {network}: collection {run} of {repeats}")
        with tempfile.TemporaryDirectory() as folder, PhaseSampler() as sampler:
            seconds = seconds_of(lambda: _collected(request, Path(folder)))
        runs.append((seconds, {phase: sampler.seconds[phase] for phase in PHASES}))
        timer.time()
    runs.sort(key=lambda taken: taken[0])
    seconds = tuple(each for each, _ in runs)
    return SweepTiming(network, size, seconds, timer.floor(), runs[len(runs) // 2][1])


def _collected(request: CollectionRequest, folder: Path) -> None:
    outcome = collect(request, folder / "sweep.duckdb", Silent())
    if outcome.failures:
        raise SystemExit(f"expected a collection, found a failure: {outcome.failures[0].reason}")


def sweep_timings(networks: Sequence[str], size: Size, repeats: int) -> list[SweepTiming]:
    """One after the other."""
    return [sweep_timing(network, size, repeats) for network in networks]
