"""What needs processes of its own: peak memory, growth, and how long a command takes to start."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from workload import progress, seconds_of

MEMORY_NETWORK, MEMORY_FORMATS = "VGG_16", (1, 3, 9)
MEMORY_IMAGES = 50
GROWTH_NETWORK, GROWTH_WIDTH = "AlexNet_BN", 0.125
COMMANDS = (("--help",), ("fit",))
NETWORK_COUNTS, FORMAT_COUNTS = (1, 2, 4, 8), (11, 22, 43)
IMAGE_COUNTS = (1_000, 2_000, 5_000, 10_000)
MIB = 1 << 20


@dataclass(frozen=True)
class Child:
    """What a collection in a process of its own took."""

    seconds: float
    peak_bytes: int
    weight_bytes: int
    batch_bytes: int


def child(*arguments: object) -> Child:
    """Run ``child.py``."""
    command = [sys.executable, str(Path(__file__).with_name("child.py")), *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Child(**json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Memory:
    """Peak memory of collections of one network beside that of its float forward pass.

    Attributes
    ----------
    batch_bytes
        What one layer reads and puts out of a batch, of the layer where that is most.
    extra_bytes
        By number of formats: what the peak is above the float network's.
    """

    float_peak_bytes: int
    weight_bytes: int
    batch_bytes: int
    extra_bytes: dict[int, int]

    @property
    def extra_weights(self) -> float:
        """The largest of them in units of the weights, less a batch."""
        return (max(self.extra_bytes.values()) - self.batch_bytes) / self.weight_bytes


def memory() -> Memory:
    """Measure one network with several numbers of formats."""
    progress(f"peak memory of {MEMORY_NETWORK}")
    size = ("--images", MEMORY_IMAGES, "--calibration", MEMORY_IMAGES)
    alone = child(MEMORY_NETWORK, "--formats", 0, *size)
    peaks = {
        count: child(MEMORY_NETWORK, "--formats", count, *size).peak_bytes
        for count in MEMORY_FORMATS
    }
    extra = {count: peak - alone.peak_bytes for count, peak in peaks.items()}
    return Memory(alone.peak_bytes, alone.weight_bytes, alone.batch_bytes, extra)


@dataclass(frozen=True)
class Growth:
    """How time and memory grow with one count, all else alike.

    Attributes
    ----------
    what
        ``networks``, ``formats`` or ``images``.
    seconds, peak_mib
        Medians, one for each count.
    """

    what: str
    counts: tuple[int, ...]
    seconds: tuple[float, ...]
    peak_mib: tuple[float, ...]

    def line(self, values: Sequence[float]) -> tuple[float, float, float]:
        """Constant, slope for one more, and R² of the least-squares line."""
        slope, constant = np.polyfit(self.counts, values, 1)
        residuals = np.asarray(values) - (constant + slope * np.asarray(self.counts))
        about_mean = np.asarray(values) - np.mean(values)
        total = float(about_mean @ about_mean)
        return float(constant), float(slope), 1 - float(residuals @ residuals) / (total or 1)


def growths(repeats: int) -> list[Growth]:
    """Grow networks, formats and images, one at a time, in turns."""
    base = {"networks": 1, "formats": FORMAT_COUNTS[0], "images": IMAGE_COUNTS[0]}
    grown = {"networks": NETWORK_COUNTS, "formats": FORMAT_COUNTS, "images": IMAGE_COUNTS}
    points = {
        (what, count): {**base, what: count} for what, counts in grown.items() for count in counts
    }
    taken: dict[tuple[int, ...], list[Child]] = {}
    for repeat in range(1, repeats + 1):
        for key in dict.fromkeys(tuple(sizes.values()) for sizes in points.values()):
            asked = f"{key[0]} networks, {key[1]} formats, {key[2]} images"
            progress(f"growth {repeat} of {repeats}: {asked}")
            sizes = ("--networks", key[0], "--formats", key[1], "--images", key[2])
            found = child(GROWTH_NETWORK, "--width", GROWTH_WIDTH, *sizes)
            taken.setdefault(key, []).append(found)
    return [
        Growth(
            what,
            counts,
            tuple(
                statistics.median(one.seconds for one in taken[tuple(points[what, n].values())])
                for n in counts
            ),
            tuple(
                statistics.median(
                    one.peak_bytes / MIB for one in taken[tuple(points[what, n].values())]
                )
                for n in counts
            ),
        )
        for what, counts in grown.items()
    ]


def start_seconds(repeats: int) -> dict[str, float]:
    """Median seconds of ``ptqdb --help`` and of ``ptqdb fit`` on the study that travels along.

    The first run, which compiles Python's bytecode and imports the study's facts, is left out;
    bytecode is kept in a folder of its own, whatever the environment says about it.
    """
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        dropped = ("PYTHONDONTWRITEBYTECODE", "PTQDB_DB")
        environment = {key: value for key, value in os.environ.items() if key not in dropped}
        environment |= {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "XDG_CACHE_HOME": folder}
        for repeat in range(repeats * 2 + 1):
            for arguments in COMMANDS:
                progress(f"start of ptqdb {' '.join(arguments)}")
                command = [sys.executable, "-m", "ptqdb", *arguments]
                run = partial(
                    subprocess.run,
                    command,
                    cwd=folder,
                    env=environment,
                    check=True,
                    capture_output=True,
                )
                seconds = seconds_of(run)
                if repeat:
                    taken.setdefault(" ".join(("ptqdb", *arguments)), []).append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}
