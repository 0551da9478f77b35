"""Writes what was measured as docs/explanation/performance.md."""

from collections.abc import Sequence
from dataclasses import dataclass

from kernels import FACTS_NETWORK, FAKE_QUANTIZE
from processes import (
    GROWTH_NETWORK,
    GROWTH_WIDTH,
    IMAGE_COUNTS,
    MEMORY_IMAGES,
    MEMORY_NETWORK,
    MIB,
    Growth,
    Memory,
)
from sampling import PHASES
from sweep import STUDY, TARGETS, SweepTiming, database_share

from ptqdb.quantization.number_formats import number_format
from ptqdb.support.text import markdown_table

ROUNDING_TARGETS = {"INT": 0.5, "POT": 0.3, "FLOAT": 0.25}
START_TARGETS = {"ptqdb --help": 0.3, "ptqdb fit": 1.5}
FACTS_TARGET_S, DATABASE_TARGET, MEMORY_TARGET = 2.0, 0.03, 2.0


@dataclass(frozen=True)
class Results:
    """Everything that a run measured; what was left out is empty or None.

    Attributes
    ----------
    loads
        The machine's load average before and after.
    """

    machine: str
    loads: tuple[float, float]
    command: str
    date: str
    repeats: int
    sweeps: Sequence[SweepTiming]
    rounding: dict[str, float]
    facts: dict[str, float]
    memory: Memory | None
    start: dict[str, float]
    growths: Sequence[Growth]


def page(results: Results) -> str:
    """The whole page, Markdown."""
    parts = [
        "# Performance",
        "Generated; do not edit. How long a collection takes beside the least that it could, and "
        f"what it needs. {_runs(results.repeats)}",
        _circumstances(results),
        "## The table",
        _table(["measure", "found", "to reach", ""], _summary(results)),
    ]
    for section in (_sweeps, _rounding, _facts, _memory, _start, _growth):
        parts += section(results)
    return "\n\n".join(part for part in parts if part) + "\n"


def _runs(repeats: int) -> str:
    """How far to trust the figures."""
    if repeats == 1:
        once = "Sweeps, facts, memory and growth were measured once"
        return f"{once}, the others several times (medians)."
    return f"Medians of {repeats} runs or more, taken in turns."


def _circumstances(results: Results) -> str:
    before, after = results.loads
    return (
        f"- Machine: {results.machine}\n"
        f"- Load average (this benchmark's own threads included): {before:.1f} at the start, "
        f"{after:.1f} at the end; threads that wait for a core that others hold make small "
        "operations many times slower\n"
        f"- Command: `{results.command}`\n"
        f"- Date: {results.date}"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(columns, rows, [False, *[True] * (len(columns) - 1)])


def _verdict(*, is_reached: bool) -> str:
    return "reached" if is_reached else "not reached"


def _least(found: float, target: float) -> str:
    return _verdict(is_reached=found >= target)


def _most(found: float, target: float) -> str:
    return _verdict(is_reached=found <= target)


def _summary(results: Results) -> list[list[str]]:
    rows = []
    for sweep in results.sweeps:
        target, found, how = TARGETS[sweep.network], sweep.ratio_at(STUDY), ", estimated"
        if sweep.size == STUDY:
            found, how = sweep.ratio, ""
        rows.append(
            [
                f"sweep over its floor, {sweep.network}, {STUDY.format_count} formats and "
                f"{STUDY.image_count:,} images{how}",
                f"{found:.2f}",
                f"{target}",
                _most(found, target),
            ]
        )
    for family, target in ROUNDING_TARGETS.items():
        speeds = [
            speed
            for name, speed in results.rounding.items()
            if name != FAKE_QUANTIZE and number_format(name).family == family
        ]
        if speeds:
            rows.append(
                [
                    f"rounding 4 M floats, speed over a copy's, {family}, the slowest",
                    f"{min(speeds):.2f}",
                    f"{target}",
                    _least(min(speeds), target),
                ]
            )
    if results.facts:
        slowest = max(results.facts.values())
        rows.append(
            [
                f"facts of one format of {FACTS_NETWORK}, the slowest",
                f"{slowest:.2f} s",
                f"{FACTS_TARGET_S:.0f} s",
                _most(slowest, FACTS_TARGET_S),
            ]
        )
    if results.memory is not None:
        extra = results.memory.extra_weights
        rows.append(
            [
                f"peak memory over the float network's, {MEMORY_NETWORK}, less a batch, in weights",
                f"{extra:.1f}",
                f"{MEMORY_TARGET:.0f}",
                _most(extra, MEMORY_TARGET),
            ]
        )
    if results.sweeps:
        shares = [database_share(sweep.seconds_at(STUDY)) for sweep in results.sweeps]
        rows.append(
            [
                "database's share of a full collection, estimated, the largest",
                f"{max(shares):.1%}",
                f"{DATABASE_TARGET:.0%}",
                _most(max(shares), DATABASE_TARGET),
            ]
        )
    for command, seconds in results.start.items():
        target = START_TARGETS[command]
        rows.append(
            [f"start of `{command}`", f"{seconds:.2f} s", f"{target} s", _most(seconds, target)]
        )
    return rows


def _sweeps(results: Results) -> list[str]:
    if not results.sweeps:
        return []
    size = results.sweeps[0].size
    measured = [
        [
            sweep.network,
            f"{sweep.sweep_s:.1f}",
            f"{sweep.floor.total_s:.1f}",
            f"{sweep.ratio:.2f}",
            "; ".join(f"{precision}: {way}" for precision, way in sweep.floor.ways.items()),
        ]
        for sweep in results.sweeps
    ]
    spent = [
        [
            sweep.network,
            *(f"{sweep.phases[phase] / sum(sweep.phases.values()):.0%}" for phase in PHASES),
        ]
        for sweep in results.sweeps
    ]
    estimated = [
        [
            sweep.network,
            *(
                f"{seconds / sweep.floor_at(STUDY):.3f}"
                for seconds in (sweep.seconds_at(STUDY)[phase] for phase in PHASES)
            ),
            f"{sweep.ratio_at(STUDY):.2f}",
        ]
        for sweep in results.sweeps
    ]
    return [
        "## A sweep over its floor",
        f"{size.format_count} formats at even steps through the grid, {size.image_count} images to "
        f"evaluate on, {size.calibration_count} to calibrate on: noise of 32 x 32 pixels, networks "
        "of full width with random weights, since time does not depend on either. The floor is "
        "one forward pass of the float module (batch norm not folded) for each format, over images "
        "normalized and in memory, at the lowest precision in which the format's products are "
        "exact, in the fastest of several batch sizes and memory formats (`benchmarks/floor.py`).",
        _table(["network", "sweep, s", "floor, s", "ratio", "fastest pass"], measured),
        "Where the sweep's time goes, by looking at the stack every few milliseconds:",
        _table(["network", *PHASES], spent),
        "The fewer images, the more weighs what does not grow with them: the facts of each format "
        f"and the database. The estimate for {STUDY.format_count} formats, "
        f"{STUDY.image_count:,} images and {STUDY.calibration_count:,} to calibrate on takes "
        "evaluation as proportional to images and formats, facts and database to formats, "
        "calibration to its images and the formats, and the creation of the database and the "
        "loading as constant; it is no measurement. In units of the floor:",
        _table(["network", *PHASES, "together"], estimated),
        "What evaluation takes beyond 1 is the rounding of every layer's input and the scaling of "
        "its output: each is one more way through memory for a tensor that no longer lies in the "
        "cache. It weighs most where a layer multiplies least for each element that it reads, as "
        "the depthwise convolutions of MobileNetV2 do: the limit of what is reached without "
        "compiled kernels that round while they read.",
    ]


def _rounding(results: Results) -> list[str]:
    if not results.rounding:
        return []
    rows = [[name, f"{speed:.2f}"] for name, speed in results.rounding.items()]
    return [
        "## Rounding",
        "Dividing 4 M floats by the scale and rounding them to codes, in a kept buffer; the speed "
        "of a plain copy of them into that buffer is 1. fake_quantize puts out a fresh tensor.",
        _table(["format", "speed"], rows),
    ]


def _facts(results: Results) -> list[str]:
    if not results.facts:
        return []
    rows = [[name, f"{seconds:.2f}"] for name, seconds in results.facts.items()]
    return [
        "## Facts of one format",
        f"Codes of all weights and biases of {FACTS_NETWORK} (33.6 M), their histograms, sums and "
        "softmax divergences in float64.",
        _table(["format", "seconds"], rows),
    ]


def _memory(results: Results) -> list[str]:
    found = results.memory
    if found is None:
        return []
    rows = [
        [
            str(count),
            f"{extra / MIB:.0f}",
            f"{(extra - found.batch_bytes) / found.weight_bytes:.2f}",
        ]
        for count, extra in found.extra_bytes.items()
    ]
    return [
        "## Memory",
        f"Peak of a process that collects {MEMORY_NETWORK} ({found.weight_bytes / MIB:.0f} MiB of "
        f"weights) on {MEMORY_IMAGES} images, above that of one that only runs the float network "
        f"over them ({found.float_peak_bytes / MIB:.0f} MiB, libraries included). A batch is what "
        "one layer reads and puts out of it, where that is most: "
        f"{found.batch_bytes / MIB:.0f} MiB.",
        _table(["formats", "above it, MiB", "less a batch, in its weights"], rows),
    ]


def _start(results: Results) -> list[str]:
    if not results.start:
        return []
    rows = [[f"`{command}`", f"{seconds:.2f}"] for command, seconds in results.start.items()]
    return [
        "## Start",
        "From the shell's call to the end, with Python's compiled bytecode in place: an "
        "installation without it, where `PYTHONDONTWRITEBYTECODE` is set or site-packages may "
        "not be written, compiles the modules of NumPy, SciPy and polars anew each time and takes "
        "about twice as long. Most of `fit` is the import of NumPy, polars, DuckDB and SciPy.",
        _table(["command", "seconds"], rows),
    ]


def _growth(results: Results) -> list[str]:
    if not results.growths:
        return []
    parts = [
        "## Growth",
        f"{GROWTH_NETWORK} of width {GROWTH_WIDTH}, each collection in a process of its own; one "
        f"network, 11 formats, {IMAGE_COUNTS[0]:,} images, where nothing else is said. The last "
        "rows are the least-squares line and how much of the variance it explains.",
    ]
    for growth in results.growths:
        rows = [
            [f"{count:,}", f"{seconds:.2f}", f"{peak:.0f}"]
            for count, seconds, peak in zip(
                growth.counts, growth.seconds, growth.peak_mib, strict=True
            )
        ]
        seconds, memory = growth.line(growth.seconds), growth.line(growth.peak_mib)
        rows += [
            ["constant", f"{seconds[0]:.2f}", f"{memory[0]:.0f}"],
            ["for one more", f"{seconds[1]:.3g}", f"{memory[1]:.2g}"],
            ["R²", f"{seconds[2]:.3f}", f"{memory[2]:.3f}"],
        ]
        parts.append(_table([growth.what, "seconds", "peak, MiB"], rows))
    return parts
