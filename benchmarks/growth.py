"""Times what reads a study at 5, 20, 80 and 200 networks, and writes docs/explanation/growth.md.

``uv run python benchmarks/growth.py`` takes some 20 minutes on two cores that do nothing else.
The study is the embedded one, each network many times under other names and with other checkpoint
hashes; the copies' correct counts are lowered by up to 1 %, so that no two have the same points.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from workload import machine, progress

from ptqdb.database.embedded_facts import embedded_facts_folder

DEFAULT_PAGE = Path(__file__).parent.parent / "docs/explanation/growth.md"
COUNTS = (5, 20, 80, 200)
MIB = 1 << 20
VIEW = "channelnsr_weightonly_layer_coherence"
# With a call of its own, since what is compared stays in the database and is not fitted again.
COMMANDS = {
    "import": ("import", "facts", "--db", "study.duckdb"),
    "info": ("info", "--db", "study.duckdb"),
    "a view": ("sql", f"select count(*), avg(divergence) from {VIEW}", "--db", "study.duckdb"),
    "fit": ("fit", "--db", "study.duckdb"),
    "validate": ("validate", "--db", "study.duckdb"),
    "compare, one view": ("compare", VIEW, "--db", "study.duckdb"),
    "predict": ("predict", "--network", "AlexNet", "--db", "study.duckdb"),
    "report": ("report", "-o", "report.html", "--db", "study.duckdb"),
}


# Starts the command from a small process: the peak memory that the system counts for a child
# begins with that of the process that started it.
LAUNCHER = """
import os, resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(code, time.monotonic() - started, peak)
"""


@dataclass(frozen=True)
class Run:
    """What a command took.

    Attributes
    ----------
    seconds, peak_bytes
        On the clock; of the memory of its largest process.
    page_bytes
        Size of the page that it wrote; 0: none.
    """

    seconds: float
    peak_bytes: int
    page_bytes: int = 0


def write_study(folder: Path, count: int) -> None:
    """Write the embedded facts as an export of `count` networks."""
    source = embedded_facts_folder()
    assert source is not None
    folder.mkdir()
    networks = pl.read_parquet(source / "network.parquet")
    copies = -(-count // networks.height)
    for path in sorted(source.glob("*.parquet")):
        frame = pl.read_parquet(path)
        ids = [key for key in ("network_id", "layer_id", "tensor_id") if key in frame.columns]
        if not ids:
            shutil.copy(path, folder / path.name)
            continue
        parts = [_copy(frame, number, source) for number in range(copies)]
        pl.concat(parts).write_parquet(folder / path.name, compression="zstd")


def _copy(frame: pl.DataFrame, number: int, source: Path) -> pl.DataFrame:
    """The rows of the copies with that number, under ids of their own."""
    for key, table in (("network_id", "network"), ("layer_id", "layer"), ("tensor_id", "tensor")):
        if key in frame.columns:
            last = pl.read_parquet(source / f"{table}.parquet", columns=[key])[key].max()
            frame = frame.with_columns(pl.col(key) + number * last)
    if "checkpoint_sha256" in frame.columns and number:
        frame = frame.with_columns(
            pl.col("name", "architecture") + f"_{number}",
            (f"{number:08x}" + pl.col("checkpoint_sha256").str.slice(8)).alias("checkpoint_sha256"),
        )
    if "correct_top1" in frame.columns:
        lost = (pl.col("correct_top1") * (number % 10) / 1000).floor().cast(pl.Int64)
        kept = (pl.col(name) - lost for name in ("correct_top1", "correct_both"))
        frame = frame.with_columns(
            pl.max_horizontal(value, 0).cast(frame.schema[value.meta.output_name()])
            for value in kept
        )
    return frame


def run(arguments: tuple[str, ...], folder: Path) -> Run:
    """Run a command of ptqdb in a folder.

    Raises
    ------
    RuntimeError
        It fails; the message is what it printed.
    """
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "ptqdb", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, seconds, peak = done.stdout.split()
    if code != "0":
        raise RuntimeError(done.stderr)
    page = folder / "report.html"
    size = page.stat().st_size if "report" in arguments else 0
    return Run(float(seconds), int(peak) * 1024, size)


def measured(count: int) -> dict[str, Run]:
    """Every command over a study of `count` networks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_study(folder / "facts", count)
        found = {}
        for command, arguments in COMMANDS.items():
            progress(f"{count} networks: {command}")
            found[command] = run(arguments, folder)
            progress(f"  {found[command].seconds:.1f} s")
        return found


def page(runs: dict[int, dict[str, Run]], load: float) -> str:
    """The page in Markdown."""
    heads = " | ".join(f"{count} networks" for count in runs)
    lines = [
        "# How commands grow with the study",
        "",
        "Generated by `uv run python benchmarks/growth.py`; do not edit. The study repeats the",
        "five networks of the embedded study under other names, with 43 formats each. Each cell",
        "shows the wall-clock seconds of the command, and the peak memory of its largest process",
        "in MiB.",
        "",
        f"{machine()}; {datetime.now(UTC).date().isoformat()}; load before the start {load:.1f}.",
        "",
        f"| command | {heads} |",
        "| --- |" + " ---: |" * len(runs),
    ]
    for command in COMMANDS:
        found = [runs[count][command] for count in runs]
        cells = " | ".join(f"{one.seconds:.1f} s, {one.peak_bytes / MIB:.0f}" for one in found)
        lines.append(f"| {command} | {cells} |")
    sizes = " | ".join(f"{runs[count]['report'].page_bytes / 1e6:.1f} MB" for count in runs)
    lines += [
        f"| the report's page | {sizes} |",
        "",
        "For held-out figures, up to 20 networks are left out one at a time. More are divided into",
        "20 folds, so that the number of fits no longer grows. The report shows at most 40",
        "networks one by one.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--output", type=Path, default=DEFAULT_PAGE)
    asked = parser.parse_args()
    output, load = asked.output.resolve(), os.getloadavg()[0]
    runs = {count: measured(count) for count in asked.networks}
    output.write_text(page(runs, load), encoding="utf-8")


if __name__ == "__main__":
    main()
