"""Whole commands on the networks that ship with ptqdb, and a prediction, beside float passes."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from floor import FloorTimer
from sampling import FACTS, FLOAT, PhaseSampler
from torch import nn
from workload import MEAN, STD, progress, random_images, random_module, seconds_of

from ptqdb.collection.unevaluated import measure_in_view
from ptqdb.datasets.images import ImageSet, normalize
from ptqdb.datasets.parquet import read_parquet
from ptqdb.defaults import PREDICTION_VIEW
from ptqdb.networks.embedded import embedded_folder, embedded_network
from ptqdb.networks.sources import network_source
from ptqdb.quantization.formats import STUDY_FORMATS

EMBEDDED_NETWORKS = ("VGG_16", "Inception_BN")
PREDICTED_NETWORK, PREDICTED_IMAGES = "VGG_16", 512


@dataclass(frozen=True)
class CommandTiming:
    """``ptqdb collect`` from the shell's call to the end, beside its floor.

    Attributes
    ----------
    network
        None: all that ship.
    seconds
        Of each run.
    floor_s
        One float pass over all images for each format; None without.
    """

    network: str | None
    seconds: tuple[float, ...]
    floor_s: float | None

    @property
    def ratios(self) -> tuple[float, ...]:
        """The runs over the floor."""
        assert self.floor_s is not None
        return tuple(seconds / self.floor_s for seconds in self.seconds)


def command_timings(repeats: int) -> list[CommandTiming]:
    """Collect some embedded networks alone and all together, each time into a fresh file."""
    images = read_parquet(embedded_folder(), "test")
    found = []
    for name in EMBEDDED_NETWORKS:
        module = embedded_network(name).load().module
        timer = FloorTimer(module, len(images), STUDY_FORMATS, images=_normalized(images))
        timer.time()
        seconds = []
        for run in range(1, repeats + 1):
            progress(f"collect --network {name}: run {run} of {repeats}")
            seconds.append(_collect_seconds("--network", name))
            timer.time()
        found.append(CommandTiming(name, tuple(seconds), timer.floor().total_s))
    progress("collect: all embedded networks")
    return [*found, CommandTiming(None, (_collect_seconds(),), None)]


def _normalized(images: ImageSet) -> torch.Tensor:
    return normalize(images.images, torch.tensor(MEAN), torch.tensor(STD))


def _collect_seconds(*arguments: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "collected.duckdb")
        command = [sys.executable, "-m", "ptqdb", "collect", "--quiet", "--db", database]
        environment = {key: value for key, value in os.environ.items() if key != "PTQDB_DB"}
        run = partial(subprocess.run, [*command, *arguments], check=True, env=environment)
        return seconds_of(run)


@dataclass(frozen=True)
class PredictionTiming:
    """What a prediction spends on a network, in all formats.

    Attributes
    ----------
    pass_s
        One float pass over the calibration images, in the fastest way.
    total_s, facts_s
        Everything that is measured, and the part that is facts of tensors.
    """

    pass_s: float
    total_s: float
    facts_s: float

    @property
    def passes(self) -> float:
        """What is not facts, in float passes."""
        return (self.total_s - self.facts_s) / self.pass_s


def prediction_timing() -> PredictionTiming:
    """Measure a network of full width for the default view, as ``ptqdb predict`` does."""
    progress(f"prediction of {PREDICTED_NETWORK}")
    images = random_images(PREDICTED_IMAGES, "train")
    module: nn.Module = random_module(PREDICTED_NETWORK)
    timer = FloorTimer(module, len(images), STUDY_FORMATS[:1], images=_normalized(images))
    timer.time()
    source = network_source(PREDICTED_NETWORK, weights="random", mean=MEAN, std=STD, seed=0)
    with PhaseSampler() as sampler:
        total_s = seconds_of(
            lambda: measure_in_view(source, images, STUDY_FORMATS, PREDICTION_VIEW)
        )
    timer.time()
    # nothing is evaluated: the float network's phase are the facts of its tensors
    facts_s = sampler.seconds[FACTS] + sampler.seconds[FLOAT]
    return PredictionTiming(timer.floor().total_s, total_s, facts_s)
