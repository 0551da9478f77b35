"""The least time in which a network can be evaluated in the study's formats.

For each format one plain forward pass of the float module over images that are decoded,
normalized and in memory, at the lowest precision in which the format's products are exact, with
the fastest of several batch sizes and memory formats. Nothing is quantized, measured or written.
The passes of one precision differ in nothing, so that one of them is measured, several times.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from workload import MEAN, STD, evenly_chosen, progress, random_images, random_module, seconds_of

from ptqdb.datasets.images import normalize
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.quantization.precision import (
    choose_precision,
    has_bfloat16_units,
    matrix_precision,
)

BATCH_SIZES = (16, 32, 64, 128, 256)
MEMORY_FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
TRIAL_SHARE, FEWEST_TRIAL_IMAGES = 8, 128
"""The ways are tried on an eighth of the images, or on 128."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Way:
    """How a pass is made: which memory format, and how many images at a time."""

    memory_format: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.memory_format}, {self.batch_size} images"


@dataclass(frozen=True)
class Floor:
    """Seconds of a pass over the images by precision, and how many formats take each.

    Attributes
    ----------
    format_counts
        Formats of the sweep by precision.
    ways
        The fastest by precision.
    """

    seconds: dict[str, float]
    format_counts: dict[str, int]
    ways: dict[str, Way]

    @property
    def total_s(self) -> float:
        """One pass for each format."""
        return sum(self.seconds[name] * count for name, count in self.format_counts.items())


def float_precision(number_format: NumberFormat, device: torch.device) -> str:
    """The lowest of a float pass: one in integers quantizes, and so is no floor of its own."""
    chosen = choose_precision(number_format, device)
    if chosen != "int8":
        return chosen
    return "bfloat16" if has_bfloat16_units(device) else "float32"


def floor_pass(module: nn.Module, batches: Sequence[Tensor], precision: str) -> None:
    """One forward pass over all batches."""
    with torch.inference_mode(), matrix_precision(precision):
        for batch in batches:
            module(batch)
        if batches[0].is_cuda:
            torch.cuda.synchronize()


class FloorTimer:
    """A float module over images; each call of `time` is one pass in the fastest way.

    Parameters
    ----------
    number_formats
        Those of the sweep that is compared; they say which precisions are needed.
    images
        Normalized; None: noise.
    """

    def __init__(
        self,
        module: nn.Module,
        image_count: int,
        number_formats: Sequence[NumberFormat],
        *,
        images: Tensor | None = None,
        device: torch.device = CPU,
    ):
        if images is None:
            pixels = random_images(image_count, "test").images
            images = normalize(pixels, torch.tensor(MEAN), torch.tensor(STD))
        self._images = images.to(device)
        self._module = module.to(device)
        self._format_counts = Counter(float_precision(known, device) for known in number_formats)
        self._ways = {precision: self._fastest(precision) for precision in self._format_counts}
        self._taken: dict[str, list[float]] = {precision: [] for precision in self._format_counts}

    def _fastest(self, precision: str) -> Way:
        count = len(self._images)
        count = min(count, max(FEWEST_TRIAL_IMAGES, count // TRIAL_SHARE))
        sizes = [size for size in BATCH_SIZES if size <= count] or [count]
        taken = {}
        for way in (Way(name, size) for name in MEMORY_FORMATS for size in sizes):
            batches = self._batches(way, count)
            floor_pass(self._module, batches[:1], precision)
            taken[way] = seconds_of(partial(floor_pass, self._module, batches, precision))
        return min(taken, key=lambda way: taken[way])

    def _batches(self, way: Way, count: int) -> list[Tensor]:
        """Batches in memory; the module is brought to the same memory format."""
        memory_format = MEMORY_FORMATS[way.memory_format]
        self._module.to(memory_format=memory_format)
        return [
            batch.contiguous(memory_format=memory_format)
            for batch in torch.split(self._images[:count], way.batch_size)
        ]

    def time(self) -> None:
        """Time one more pass of each precision."""
        for precision, way in self._ways.items():
            batches = self._batches(way, len(self._images))
            work = partial(floor_pass, self._module, batches, precision)
            self._taken[precision].append(seconds_of(work))

    def floor(self) -> Floor:
        """The medians so far."""
        medians = {name: statistics.median(taken) for name, taken in self._taken.items()}
        return Floor(medians, dict(self._format_counts), dict(self._ways))


def main() -> None:
    """Print the floor of some networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", help="names of reference networks")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--formats", type=int, default=43, help="so many, evenly chosen")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for name in arguments.networks:
        progress(f"{name}: looking for the fastest way")
        timer = FloorTimer(random_module(name), arguments.images, evenly_chosen(arguments.formats))
        for _ in range(arguments.repeats):
            timer.time()
        found = timer.floor()
        for precision, seconds in found.seconds.items():
            sys.stdout.write(
                f"{name} {precision}: {seconds:.3f} s a pass ({found.ways[precision]}), "
                f"{found.format_counts[precision]} formats\n"
            )
        sys.stdout.write(f"{name}: floor {found.total_s:.2f} s\n")


if __name__ == "__main__":
    main()
