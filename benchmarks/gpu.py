"""What to run where a GPU is at hand: every step prints its figures and survives another's failure.

``uv run python benchmarks/gpu.py`` runs the tests, equality with the CPU and sweeps over their
floor; ``--study study.toml --db FILE`` collects the study's missing cells afterwards, a network at
a time. ``--device cpu --images 64`` is a dry run.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from floor import FloorTimer
from workload import (
    evenly_chosen,
    progress,
    random_module,
    random_network,
    request_of,
    seconds_of,
)

from ptqdb.collection.reporting import Silent
from ptqdb.collection.sweep import collect
from ptqdb.database import connect, query

ROOT = Path(__file__).parent.parent
EQUAL_NETWORKS = ("AlexNet_BN", "ResNet_18")
SWEPT_NETWORKS = ("ResNet_18", "MobileNetV2")
CALIBRATION_COUNT = 256


def say(text: str) -> None:
    """Print a figure at once: the machine may go away."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tests(_: argparse.Namespace) -> None:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/measurement/test_cuda.py"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    say(f"tests: exit status {done.returncode}")


def equality(asked: argparse.Namespace) -> None:
    """Facts and accuracies beside those of the CPU."""
    formats = evenly_chosen(11)
    sql = """
        select e.correct_top1, q.squared_error_sum from evaluation as e
        left join (
            select q.number_format_id, sum(q.squared_error_sum) as squared_error_sum
            from quantized_tensor as q join tensor as t using (tensor_id)
            where t.role = 'weight' group by all
        ) as q using (number_format_id)
        order by e.number_format_id
    """
    for name in EQUAL_NETWORKS:
        request = request_of([random_network(name)], formats, asked.images, CALIBRATION_COUNT)
        frames = []
        for device in ("cpu", asked.device):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "found.duckdb"
                collect(replace(request, device=device), path, Silent())
                with connect(path, read_only=True) as connection:
                    frames.append(query(connection, sql))
        images = (frames[0]["correct_top1"] - frames[1]["correct_top1"]).abs().max()
        errors = (frames[1]["squared_error_sum"] / frames[0]["squared_error_sum"] - 1).abs().max()
        say(
            f"equality, {name}: accuracies differ by {images} of {asked.images} images at most "
            f"(at most {2 * asked.images // 1000} promised), errors of weights by {errors:.1e}"
        )


def sweeps(asked: argparse.Namespace) -> None:
    """A sweep over its floor."""
    formats, device = evenly_chosen(asked.formats), torch.device(asked.device)
    for name in SWEPT_NETWORKS:
        timer = FloorTimer(random_module(name), asked.images, formats, device=device)
        timer.time()
        request = request_of([random_network(name)], formats, asked.images, CALIBRATION_COUNT)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sweep.duckdb"
            seconds = seconds_of(
                partial(collect, replace(request, device=asked.device), path, Silent())
            )
        timer.time()
        floor = timer.floor()
        say(
            f"sweep, {name}: {seconds:.1f} s, floor {floor.total_s:.1f} s, ratio "
            f"{seconds / floor.total_s:.2f}, passes {floor.seconds}"
        )


def study(asked: argparse.Namespace) -> None:
    """The missing cells of a study; the command again resumes."""
    if asked.study is None:
        return
    command = [sys.executable, "-m", "ptqdb", "collect", str(asked.study), "--db", str(asked.db)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    say(f"study: exit status {done.returncode}")


def survived(step: Callable[[argparse.Namespace], None], asked: argparse.Namespace) -> None:
    """Run one step; print its failure."""
    progress(f"{step.__name__} begins")
    started = time.perf_counter()
    try:
        step(asked)
    except Exception:  # whatever it is, the next step may work
        say(traceback.format_exc())
    progress(f"{step.__name__} took {time.perf_counter() - started:.1f} s")


def main() -> None:
    """Run every step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--formats", type=int, default=43, help="so many, evenly chosen")
    parser.add_argument("--study", type=Path, help="a study file to collect at the end")
    parser.add_argument("--db", type=Path, default=Path("gpu.duckdb"))
    asked = parser.parse_args()
    for step in (tests, equality, sweeps, study):
        survived(step, asked)


if __name__ == "__main__":
    main()
