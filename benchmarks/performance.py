"""Compares ptqdb's speed with a lower bound and writes docs/explanation/performance.md.

``uv run python benchmarks/performance.py`` takes about an hour on two cores that do nothing
else; where others work on them, ``OMP_NUM_THREADS=1`` disturbs the figures less.
``--images 10000 --formats 43 --calibration 1024`` is the full study's size, and takes hours.
"""

import argparse
import os
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from commands import command_timings, prediction_timing
from kernels import facts_seconds, rounding_speeds
from page import Results, page
from processes import growths, memory, start_seconds
from sweep import NETWORKS, Size, sweep_timings
from workload import machine, progress

DEFAULT_PAGE = Path(__file__).parent.parent / "docs/explanation/performance.md"
PARTS = ("sweep", "commands", "prediction", "rounding", "facts", "memory", "start", "growth")


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000, help="to evaluate on, in the sweeps")
    parser.add_argument("--formats", type=int, default=43, help="so many, evenly chosen")
    parser.add_argument("--calibration", type=int, default=104, help="images to calibrate on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--output", type=Path, default=DEFAULT_PAGE)
    return parser.parse_args()


def main() -> None:
    """Measure, write the page."""
    asked = parsed()
    given = " ".join(shlex.quote(word) for word in sys.argv[1:])
    threads = os.environ.get("OMP_NUM_THREADS")
    prefix = f"OMP_NUM_THREADS={threads} " if threads else ""
    size = Size(asked.images, asked.calibration, asked.formats)
    is_asked = {part: part in asked.parts for part in PARTS}
    load_before = os.getloadavg()[0]
    measured = Results(
        machine=machine(),
        loads=(load_before, load_before),
        command=f"{prefix}uv run python benchmarks/performance.py {given}".strip(),
        date=datetime.now(UTC).date().isoformat(),
        repeats=asked.repeats,
        start=start_seconds(asked.repeats) if is_asked["start"] else {},
        commands=command_timings(asked.repeats) if is_asked["commands"] else [],
        prediction=prediction_timing() if is_asked["prediction"] else None,
        rounding=rounding_speeds(asked.repeats) if is_asked["rounding"] else {},
        facts=facts_seconds(asked.repeats) if is_asked["facts"] else {},
        memory=memory() if is_asked["memory"] else None,
        growths=growths(asked.repeats) if is_asked["growth"] else [],
        sweeps=sweep_timings(asked.networks, size, asked.repeats) if is_asked["sweep"] else [],
    )
    results = replace(measured, loads=(load_before, os.getloadavg()[0]))
    asked.output.write_text(page(results), encoding="utf-8")
    progress(f"wrote {asked.output}")


if __name__ == "__main__":
    main()
