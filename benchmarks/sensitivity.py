"""What the sensitivity of layers is worth as their share, beside the default view.

    uv run python benchmarks/sensitivity.py

The embedded networks are predicted from each other, each left out; the networks of the full study
whose weights ship, from all embedded ones. The sensitivities are measured now, on 64 calibration
images of the embedded study; all other facts are the shipped ones. R² weighs near-duplicate
formats as one.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import polars as pl
import torch

import ptqdb
from ptqdb.collection.declaration import DatasetEntry, StudyDeclaration
from ptqdb.collection.requests import collection_request
from ptqdb.collection.rows import read_layer_ids, write_sensitivities
from ptqdb.database import connect, query, read_view
from ptqdb.database.exchange import import_study
from ptqdb.datasets.images import ImageSet
from ptqdb.defaults import PREDICTION_VIEW
from ptqdb.fitting.cross_validation import HeldOut
from ptqdb.fitting.predicted_losses import predicted_losses
from ptqdb.fitting.view_fit import view_points
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.measurement.sensitivity import layer_sensitivities
from ptqdb.networks.sources import NetworkSource
from ptqdb.support.text import markdown_table

DATA = Path(__file__).parents[1] / "data"
WIDE = ("AlexNet", "AlexNet_BN", "MobileNetV2")
SENSITIVE = "variant(combine := 'weightonly', share := 'sensitivity', measure := '{}')"
CPU = torch.device("cpu")


def main() -> None:
    """Measure, predict, and print a table."""
    request = collection_request(StudyDeclaration((DatasetEntry(),)))
    images = request.tasks[0].calibration
    with TemporaryDirectory() as folder:
        narrow = _study(Path(folder) / "narrow.duckdb", DATA / "embedded" / "facts")
        wide = _study(Path(folder) / "wide.duckdb", DATA / "cifar10")
        for task in request.tasks:
            _measure(narrow, task.source, images)
        for name in WIDE:
            weights = DATA / "cifar10" / "weights" / f"{name}.safetensors"
            _measure(wide, ptqdb.network(name, checkpoint=weights), images)
        rows = [_row(name, *frames) for name, frames in _views(narrow, wide).items()]
    columns = ("view", "R², each left out", "worst", *(f"{name}, full width" for name in WIDE))
    sys.stdout.write(f"{markdown_table(columns, rows)}\n")


def _study(path: Path, facts: Path) -> duckdb.DuckDBPyConnection:
    connection = connect(path, read_only=False)
    import_study(connection, facts)
    connection.execute("delete from layer_sensitivity")
    return connection


def _measure(
    connection: duckdb.DuckDBPyConnection, source: NetworkSource, images: ImageSet
) -> None:
    trained = source.load()
    measurement = NetworkMeasurement(trained, images.head(8), (), device=CPU, with_inputs=False)
    found = layer_sensitivities(measurement.network, images, trained.preprocessing, device=CPU)
    known = query(connection, "from network").filter(pl.col("name") == source.name)
    layer_ids = read_layer_ids(connection, known["network_id"].item())
    write_sensitivities(connection, layer_ids, found)


def _views(
    narrow: duckdb.DuckDBPyConnection, wide: duckdb.DuckDBPyConnection
) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """The rows of both studies, by what their divergence is."""
    found = {}
    for name, view in {
        f"`{PREDICTION_VIEW}`, the default": PREDICTION_VIEW,
        **{f"share `sensitivity`, `{one}`": SENSITIVE.format(one) for one in ("channelnsr", "nsr")},
    }.items():
        found[name] = (read_view(narrow, view), read_view(wide, view))
    default, sensitive, _ = found.values()
    pairs = zip(sensitive, default, strict=True)
    found["geometric mean of the first two"] = tuple(_mean(*pair) for pair in pairs)
    totals = [
        query(
            study,
            "select network.name as network, sum(share_of_network) as total "
            "from layer_share('sensitivity') join network using (network_id) group by all",
        )
        for study in (narrow, wide)
    ]
    found["the second, shares of a network adding up to 1"] = tuple(
        rows.join(total, on="network")
        .with_columns(divergence=pl.col("divergence") / pl.col("total"))
        .drop("total")
        for rows, total in zip(sensitive, totals, strict=True)
    )
    return found


def _mean(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    keys = ["network", "number_format"]
    joined = rows.join(others.select(*keys, other="divergence"), on=keys)
    mean = (pl.col("divergence") * pl.col("other")).sqrt()
    return joined.with_columns(divergence=mean).drop("other")


def _row(name: str, narrow: pl.DataFrame, wide: pl.DataFrame) -> tuple[str, ...]:
    own = {
        network: _predicted(narrow, network, narrow.filter(pl.col("network") != network))
        for network in narrow["network"].unique(maintain_order=True)
    }
    whole = _judged(list(own.values()))
    worst = min(_judged([one]) for one in own.values())
    others = (_judged([_predicted(wide, network, narrow)]) for network in WIDE)
    return (name, *(f"{value:.3f}" for value in (whole, worst, *others)))


Losses = tuple[np.ndarray, np.ndarray, np.ndarray]


def _predicted(rows: pl.DataFrame, network: str, reference: pl.DataFrame) -> Losses:
    """Measured and predicted losses of a network, and the weights of its formats."""
    measured = rows.filter(pl.col("network") == network)
    found = predicted_losses(measured, reference, view=PREDICTION_VIEW).rows
    losses = measured["accuracy_loss"].cast(pl.Float64).to_numpy()
    return losses, np.array([row.predicted_loss for row in found]), view_points(measured).weights


def _judged(losses: list[Losses]) -> float:
    return HeldOut(*(np.concatenate(parts) for parts in zip(*losses, strict=True))).r_squared


if __name__ == "__main__":
    main()
