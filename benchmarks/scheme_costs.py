"""What formats of other schemes cost beside a format of the study.

    uv run python benchmarks/scheme_costs.py

One network of full width with random weights, noise for images. For each format: seconds to code
and measure all weights and biases (facts), to run the network on the images (evaluation), and to
quantize and measure the inputs on the calibration images (inputs); the median of interleaved
repeats. Prints a table in Markdown.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial

import torch
from workload import (
    MEAN,
    STD,
    machine,
    progress,
    random_images,
    random_network,
    seconds_of,
)

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.networks.checkpoints import TrainedNetwork
from ptqdb.quantization.formats import Format, match_formats
from ptqdb.support.text import markdown_table

BASE = "FLOAT_8_E4"
FORMATS = "FLOAT_8_E4,INT_8,int8,int8_dynamic,fp8,mxfp8_e4m3,mxfp4,nvfp4,mxint8,nf4,q4_0,q4_K"
PARTS = ("facts", "evaluation", "inputs")
CPU = torch.device("cpu")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="ResNet_18")
    parser.add_argument("--number-formats", default=FORMATS)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--calibration", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    formats = match_formats(f"{BASE},{asked.number_formats}")
    trained = random_network(asked.network).load()
    images = random_images(asked.images, "test")
    calibration = random_images(asked.calibration, "train")
    without = _calibrated(trained, calibration, ())
    evaluation = NetworkEvaluation(without.network, images, Preprocessing(MEAN, STD), device=CPU)
    seconds: dict[str, dict[str, list[float]]] = {
        known.name: {part: [] for part in PARTS} for known in formats
    }
    for repeat in range(asked.repeats + 1):  # the first warms up
        progress(f"repeat {repeat} of {asked.repeats}")
        alone = seconds_of(partial(_calibrated, trained, calibration, ()))
        for known in formats:
            taken = {
                "facts": seconds_of(partial(without.facts_without_codes, known)),
                "evaluation": seconds_of(
                    partial(evaluation.of_codes, without.code(known), known, "all")
                ),
                "inputs": seconds_of(partial(_calibrated, trained, calibration, (known,))) - alone,
            }
            if repeat:
                for part, value in taken.items():
                    seconds[known.name][part].append(value)
    rows = [_row(known, seconds) for known in formats]
    columns = ("format", *PARTS, *(f"{part} / {BASE}" for part in PARTS[:2]), "both")
    sys.stdout.write(
        f"{asked.network}, {asked.images} images, {asked.calibration} calibration images, "
        f"{machine()}\n\n{markdown_table(columns, rows)}\n"
    )


def _calibrated(
    trained: TrainedNetwork, calibration: ImageSet, formats: Sequence[Format]
) -> NetworkMeasurement:
    return NetworkMeasurement(trained, calibration, formats, device=CPU)


def _row(known: Format, seconds: dict[str, dict[str, list[float]]]) -> list[str]:
    """Medians in seconds, and over those of the base."""
    of = {
        name: {part: statistics.median(values) for part, values in parts.items()}
        for name, parts in seconds.items()
    }
    own, base = of[known.name], of[BASE]
    both = (own["facts"] + own["evaluation"]) / (base["facts"] + base["evaluation"])
    return [
        f"`{known.name}`",
        *(f"{own[part]:.2f}" for part in PARTS),
        *(f"{own[part] / base[part]:.2f}" for part in PARTS[:2]),
        f"{both:.2f}",
    ]


if __name__ == "__main__":
    main()
