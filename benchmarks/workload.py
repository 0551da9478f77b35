"""What every benchmark works on: random images, random weights, formats, medians, the machine."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ptqdb.collection.plan import CollectionRequest, NetworkTask
from ptqdb.datasets.images import ImageSet, normalize
from ptqdb.networks.reference import reference_network
from ptqdb.networks.sources import NetworkSource, network_source
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CLASS_NAMES = tuple(str(label) for label in range(10))


def progress(text: str) -> None:
    """Tell on stderr how it goes on."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def random_images(count: int, split: str, edge: int = 32) -> ImageSet:
    """Square noise in ten classes: time does not depend on what a picture shows."""
    generator = torch.Generator().manual_seed(len(split))
    pixels = torch.randint(0, 256, (count, 3, edge, edge), generator=generator, dtype=torch.uint8)
    return ImageSet("noise", split, pixels, torch.arange(count) % len(CLASS_NAMES), CLASS_NAMES)


def random_module(name: str, *, width: float = 1.0, seed: int = 0) -> nn.Module:
    """A reference network with fresh weights, which come again with the seed.

    Its running statistics are those of a batch of noise: with those of a fresh batch norm the
    activations of a deep network die out.
    """
    torch.manual_seed(seed)
    module = reference_network(name).build(width=width)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    module.train()
    with torch.no_grad():
        images, fed = random_images(32, "train").images, map(torch.tensor, (MEAN, STD))
        module(normalize(images, *fed, torch.channels_last))
    return module.eval()


def random_network(name: str, *, width: float = 1.0, seed: int = 0) -> NetworkSource:
    """The same as a collection takes it."""
    module = random_module(name, width=width, seed=seed)
    own = name if seed == 0 else f"{name}_{seed}"
    return network_source(module, name=own, architecture=name, mean=MEAN, std=STD)


def request_of(
    sources: Sequence[NetworkSource],
    number_formats: Sequence[NumberFormat],
    image_count: int,
    calibration_count: int,
) -> CollectionRequest:
    """A collection of these networks over random images."""
    images = random_images(image_count, "test")
    calibration = random_images(calibration_count, "train")
    tasks = tuple(NetworkTask(source, images, calibration) for source in sources)
    return CollectionRequest(tasks, tuple(number_formats))


def evenly_chosen(count: int) -> tuple[NumberFormat, ...]:
    """So many formats of the grid, at even steps from the first to the last of its families.

    The grid is sorted by family and by bits within it, so that each family gives its share.
    """
    if count >= len(STUDY_GRID):
        return STUDY_GRID
    step = len(STUDY_GRID) / count
    return tuple(STUDY_GRID[int((place + 0.5) * step)] for place in range(count))


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved_medians(
    works: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Median seconds of each, taken in turns: another process's load then falls on all alike."""
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(seconds_of(work))
    return {name: statistics.median(values) for name, values in taken.items()}


def machine() -> str:
    """Processor, cores in use, and the versions that decide the speed."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        named = [line for line in information.read_text().splitlines() if "model name" in line]
        model = named[0].partition(":")[2].strip() if named else model
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, {capability}, "
        f"torch threads: {torch.get_num_threads()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
