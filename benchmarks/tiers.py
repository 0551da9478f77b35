"""How well networks are predicted from their weights, with their inputs, and from probes.

    uv run python benchmarks/tiers.py DATABASE...
    uv run python benchmarks/tiers.py --cost

Each network of the databases is predicted from the embedded study, as ``ptqdb predict`` does it,
and compared with its evaluations. The databases differ in the number of images of their probes
(``ptqdb collect --probe N``). ``--cost`` measures the processor time of ``predict`` instead.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import torch

import ptqdb
from ptqdb.database import connect, query, read_view
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.defaults import PREDICTION_VIEW, PROBE_VIEW
from ptqdb.fitting.cross_validation import HeldOut
from ptqdb.fitting.predicted_losses import Predictions, predicted_losses
from ptqdb.fitting.prediction import probed_losses
from ptqdb.fitting.view_fit import finite_rows, view_points
from ptqdb.support.text import markdown_table

WITH_INPUTS = "channelnsr_nodiv_layer_coherence_both"
VIEWS = {"weights": PREDICTION_VIEW, "weights and inputs": WITH_INPUTS, "probe": PROBE_VIEW}
PROBES = (
    "select network.name as network, format_name(number_format.name, scheme.name) as "
    "number_format, probe.image_count, "
    "probe.image_count - probe.same_prediction as changed_count from probe "
    "join network using (network_id) join number_format using (number_format_id) "
    "join scheme using (scheme_id)"
)
REFERENCE_IMAGES = 128
TIMED = ("AlexNet", "Inception_BN")
IMAGES = Path(__file__).parents[1] / "data" / "embedded"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("databases", nargs="*", type=Path)
    parser.add_argument("--cost", action="store_true")
    asked = parser.parse_args()
    if asked.cost:
        sys.stdout.write(
            markdown_table(("network", "known", "CPU s", "CPU s a format"), list(costs())) + "\n"
        )
        return
    rows = []
    with open_embedded_facts() as reference:
        for path in asked.databases:
            with connect(path, read_only=True) as connection:
                rows += accuracies(connection, reference)
    columns = ("network", "known", "images", "R²", "median error", "largest", "inside 90 %")
    sys.stdout.write(markdown_table(columns, rows) + "\n")


def accuracies(
    connection: duckdb.DuckDBPyConnection, reference: duckdb.DuckDBPyConnection
) -> Iterator[tuple[str, ...]]:
    """A row per network and tier."""
    for name in query(connection, "select name from network order by name")["name"]:
        probes = query(connection, PROBES).filter(network=name)
        images = str(probes["image_count"].max())
        for known, view in VIEWS.items():
            own = finite_rows(read_view(connection, view).filter(network=name))
            others = read_view(reference, view)
            if known == "probe":
                none = others.head(0)
                alone = probed_losses(own, probes, none, REFERENCE_IMAGES, view=view)
                yield (name, "probe, no reference", images, *figures(own, alone))
                found = probed_losses(own, probes, others, REFERENCE_IMAGES, view=view)
                yield (name, known, images, *figures(own, found))
            else:
                yield (name, known, "", *figures(own, predicted_losses(own, others, view=view)))


def figures(own: pl.DataFrame, found: Predictions) -> tuple[str, ...]:
    """R², median and largest error, and the share of the losses inside the intervals."""
    points = view_points(own)
    loss, lower, upper = (
        np.array([getattr(row, name) for row in found.rows])
        for name in ("predicted_loss", "lower", "upper")
    )
    judged = HeldOut(points.y, loss, points.weights)
    inside = (lower <= points.y) & (points.y <= upper)
    return (
        f"{judged.r_squared or 0:.3f}",
        f"{judged.median_error or 0:.2%}",
        f"{np.abs(loss - points.y).max():.1%}",
        f"{np.average(inside, weights=points.weights):.0%}",
    )


def costs() -> Iterator[tuple[str, ...]]:
    """The processor time of predicting 43 formats, reading the images and the network included."""
    torch.set_num_threads(1)
    with ptqdb.open() as study:
        for name in TIMED:
            source = ptqdb.network(name, checkpoint=IMAGES / f"{name}.safetensors")
            images = ptqdb.images(IMAGES, "train", labelled=False)
            tiers = {
                "weights": {},
                "weights and inputs": {"calibration": images, "view": WITH_INPUTS},
                "probe of 64 images": {"calibration": images, "probe": 64},
                "probe of 128 images": {"calibration": images, "probe": 128},
            }
            for known, options in tiers.items():
                started = time.process_time()
                count = len(study.predict(source, **options).rows)  # type: ignore[arg-type]
                seconds = time.process_time() - started
                yield (name, known, f"{seconds:.1f}", f"{seconds / count:.2f}")


if __name__ == "__main__":
    sys.exit(main())
