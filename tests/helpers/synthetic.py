"""Fills a database with a small study: random tensors, quantized for real, and made-up accuracies.

Everything follows from a seed. The tensors are quantized the way ptqdb does it, so that the
histograms look like those of a study; the evaluations are drawn from what their width suggests.
"""

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ptqdb.database import insert, next_id, transaction
from ptqdb.quantization.number_formats import NumberFormat, number_format

Floats = NDArray[np.float64]

CLASS_COUNT = 10
CHANNEL_COUNT = 4
IMAGE_COUNT = 1000
PROBE_COUNT = 50
FINE_BINS = 2047
MAX_EXACT_CODES = 4095
SCHEME = "per_tensor_symmetric_max"
TENSOR_TABLES = (
    "tensor",
    "tensor_channel",
    "tensor_histogram",
    "quantized_tensor",
    "quantized_tensor_channel",
    "code_histogram",
)
FORMATS = tuple(number_format(name) for name in ("INT_2", "INT_8", "INT_14", "POT_4", "FLOAT_6_E3"))


@dataclass(frozen=True)
class SyntheticLayer:
    """A layer: the element counts of its weight and bias (0: without), and its MACs."""

    weights: int
    biases: int
    macs: int


@dataclass(frozen=True)
class SyntheticNetwork:
    """A network with its floating-point accuracy."""

    name: str
    architecture: str
    layers: tuple[SyntheticLayer, ...]
    accuracy: float


NETWORKS = (
    SyntheticNetwork(
        "Plain",
        "Plain",
        (
            SyntheticLayer(900, 12, 3_000_000),
            SyntheticLayer(2000, 0, 5_000_000),
            SyntheticLayer(500, 10, 500),
        ),
        0.8,
    ),
    SyntheticNetwork(
        "Plain_BN",
        "Plain",
        (SyntheticLayer(700, 20, 40_000_000), SyntheticLayer(300, 10, 3_000)),
        0.7,
    ),
    # Below 1 MMAC: its log view is NULL.
    SyntheticNetwork("Small", "Small", (SyntheticLayer(400, 0, 900_000),), 0.6),
)


def by_channel(values: Floats) -> list[Floats]:
    """A weight's elements by output channel; fewer channels than four if it is that small."""
    return np.array_split(values, min(CHANNEL_COUNT, len(values)))


def fine_bins(values: Floats, max_abs: float) -> NDArray[np.int64]:
    """round(value * 2047 / max_abs), ties toward zero; 0 where max_abs is 0."""
    if max_abs == 0:
        return np.zeros(len(values), dtype=np.int64)
    distance = np.abs(values) * FINE_BINS / max_abs
    return (np.sign(values) * np.ceil(distance - 0.5)).astype(np.int64)


def fill(
    connection: duckdb.DuckDBPyConnection,
    *,
    seed: int = 0,
    networks: tuple[SyntheticNetwork, ...] = NETWORKS,
    formats: tuple[NumberFormat, ...] = FORMATS,
    scopes: tuple[str, ...] = ("all", "weight"),
) -> None:
    """Write networks in all formats, and an evaluation of each in each scope."""
    random = np.random.default_rng(seed)
    # One transaction, since hundreds of small ones are slow.
    with transaction(connection):
        _write_surroundings(connection, formats)
        for network in networks:
            network_id = next_id(connection, "network")
            params = sum(layer.weights + layer.biases for layer in network.layers)
            _append(
                connection,
                "network",
                network_id=network_id,
                name=network.name,
                architecture=network.architecture,
                checkpoint_sha256=network.name,
                dataset_id=1,
                calibration_dataset_id=1,
                quantized_layer_count=len(network.layers),
                params=params,
                macs=sum(layer.macs for layer in network.layers),
                unfolded_batch_norm_count=0,
            )
            for position, layer in enumerate(network.layers):
                _write_layer(connection, random, network_id, position, layer, formats)
            _write_evaluations(connection, random, network_id, network.accuracy, formats, scopes)


def _write_surroundings(
    connection: duckdb.DuckDBPyConnection, formats: tuple[NumberFormat, ...]
) -> None:
    _append(
        connection,
        "dataset",
        dataset_id=1,
        name="synthetic",
        split="test",
        class_count=CLASS_COUNT,
        image_count=IMAGE_COUNT,
        content_sha256="synthetic",
    )
    _append(
        connection,
        "scheme",
        scheme_id=1,
        name=SCHEME,
        granularity="tensor",
        symmetry="symmetric",
        range_rule="max",
        quantized="weight,bias,input",
        calibration="none",
    )
    for place, known in enumerate(formats, start=1):
        _append(
            connection,
            "number_format",
            number_format_id=place,
            name=known.name,
            family=known.family,
            bits=known.bits,
            ebits=known.ebits,
            mbits=known.mbits,
            max_code=known.max_code,
            code_count=known.code_count,
            in_study_grid=known.is_in_study_grid,
        )


def _append(connection: duckdb.DuckDBPyConnection, table: str, **values: object) -> None:
    insert(connection, table, pl.DataFrame([values], infer_schema_length=None))


def _write_layer(
    connection: duckdb.DuckDBPyConnection,
    random: np.random.Generator,
    network_id: int,
    position: int,
    layer: SyntheticLayer,
    formats: tuple[NumberFormat, ...],
) -> None:
    layer_id = next_id(connection, "layer")
    _append(
        connection,
        "layer",
        layer_id=layer_id,
        network_id=network_id,
        position=position,
        name=f"layer{position}",
        kind="Linear",
        params=layer.weights + layer.biases,
        macs=layer.macs,
    )
    weight = random.laplace(scale=0.1, size=layer.weights).astype(np.float32).astype(np.float64)
    bias = random.normal(scale=0.05, size=layer.biases).astype(np.float32).astype(np.float64)
    weight_id = write_tensor(connection, layer_id, "weight", weight)
    bias_id = write_tensor(connection, layer_id, "bias", bias) if len(bias) else None
    for place, known in enumerate(formats, start=1):
        scale = float(np.float32(np.abs(weight).max() / known.max_code))
        codes = nearest_codes(weight / scale, known)
        write_codes(connection, weight_id, place, known, scale, codes, weight)
        if bias_id is not None:
            # The input's range is 1; biases of all families on an integer grid.
            bias_scale = scale / known.max_code
            write_codes(
                connection,
                bias_id,
                place,
                None,
                bias_scale,
                np.rint(bias / bias_scale),
                bias,
            )


def nearest_codes(values: Floats, known: NumberFormat) -> Floats:
    """Round to the nearest codes of a grid; ties to the smaller magnitude."""
    magnitudes = known.magnitudes()
    middles = (magnitudes[1:] + magnitudes[:-1]) / 2
    return np.sign(values) * magnitudes[np.searchsorted(middles, np.abs(values))]


def write_tensor(
    connection: duckdb.DuckDBPyConnection, layer_id: int, role: str, values: Floats
) -> int:
    """Write a float tensor with its histogram; return its id."""
    tensor_id = next_id(connection, "tensor")
    _append(
        connection,
        "tensor",
        tensor_id=tensor_id,
        layer_id=layer_id,
        role=role,
        element_count=len(values),
        min_value=values.min(),
        max_value=values.max(),
        sum_x=values.sum(),
        sum_abs=np.abs(values).sum(),
        sum_x2=(values**2).sum(),
        sum_x3=(values**3).sum(),
        sum_x4=(values**4).sum(),
    )
    bins, counts = np.unique(fine_bins(values, np.abs(values).max()), return_counts=True)
    histogram = pl.DataFrame({"bin": bins, "count": counts})
    insert(connection, "tensor_histogram", histogram.with_columns(tensor_id=pl.lit(tensor_id)))
    if role == "weight":
        rows = [(part.min(), part.max(), (part**2).sum()) for part in by_channel(values)]
        channels = pl.DataFrame(rows, ["min_value", "max_value", "sum_x2"], orient="row")
        columns = channels.with_row_index("channel").with_columns(tensor_id=pl.lit(tensor_id))
        insert(connection, "tensor_channel", columns)
    return tensor_id


def write_codes(
    connection: duckdb.DuckDBPyConnection,
    tensor_id: int,
    number_format_id: int,
    known: NumberFormat | None,
    scale: float,
    codes: Floats,
    values: Floats,
) -> None:
    """Write a quantized tensor; the codes of wide formats binned, without a format exactly.

    Without a format it is a bias, and has no channels.
    """
    ids = {"tensor_id": tensor_id, "number_format_id": number_format_id, "scheme_id": 1}
    _append(
        connection,
        "quantized_tensor",
        **ids,
        scale=scale,
        clipped_count=0,
        sum_codes=codes.sum(),
        sum_codes2=(codes**2).sum(),
        sum_code_x=(codes * values).sum(),
        squared_error_sum=((codes * scale - values) ** 2).sum(),
    )
    stored = codes
    if known is not None and known.code_count > MAX_EXACT_CODES:
        stored = fine_bins(codes, known.max_code) * known.max_code / FINE_BINS
    # Adding 0.0 turns -0.0 into 0.0.
    kept, counts = np.unique(stored + 0.0, return_counts=True)
    columns = {name: pl.lit(value) for name, value in ids.items()}
    histogram = pl.DataFrame({"code": kept, "count": counts}).with_columns(**columns)
    insert(connection, "code_histogram", histogram)
    if known is not None:  # a weight
        errors = [(part**2).sum() for part in by_channel(codes * scale - values)]
        of_channels = pl.DataFrame({"squared_error_sum": errors})
        insert(
            connection,
            "quantized_tensor_channel",
            of_channels.with_row_index("channel").with_columns(**columns),
        )


def _write_evaluations(
    connection: duckdb.DuckDBPyConnection,
    random: np.random.Generator,
    network_id: int,
    accuracy: float,
    formats: tuple[NumberFormat, ...],
    scopes: tuple[str, ...],
) -> None:
    is_correct = random.random(IMAGE_COUNT) < accuracy
    write_evaluation(connection, network_id, None, "none", is_correct, is_correct)
    for place, known in enumerate(formats, start=1):
        kept = 1 - 0.5 ** (known.bits - 2)
        for scope in scopes:
            if scope == "layer":
                _write_layer_evaluations(connection, network_id, place, kept, is_correct)
                continue
            is_kept = random.random(IMAGE_COUNT) < kept
            is_lucky = random.random(IMAGE_COUNT) < 1 / CLASS_COUNT
            now_correct = np.where(is_kept, is_correct, is_lucky)
            write_evaluation(connection, network_id, place, scope, now_correct, is_correct)
        if "all" in scopes:
            write_probe(connection, network_id, place, kept)


def write_evaluation(
    connection: duckdb.DuckDBPyConnection,
    network_id: int,
    number_format_id: int | None,
    scope: str,
    is_correct: NDArray[np.bool_],
    is_float_correct: NDArray[np.bool_],
) -> None:
    """Write an evaluation from what was right, image by image; the rest is made up."""
    _append(
        connection,
        "evaluation",
        network_id=network_id,
        number_format_id=number_format_id,
        scheme_id=None if number_format_id is None else 1,
        scope=scope,
        **_counts(is_correct, is_float_correct),
    )


def write_probe(
    connection: duckdb.DuckDBPyConnection, network_id: int, number_format_id: int, kept: float
) -> None:
    """Write a probe in which about this share of the predictions stays; from its own seed."""
    own = np.random.default_rng(network_id).uniform(0.5, 1.0, PROBE_COUNT)
    random = np.random.default_rng((network_id, number_format_id))
    is_same = random.random(PROBE_COUNT) < kept
    errors = random.exponential(1 - kept, PROBE_COUNT)
    _append(
        connection,
        "probe",
        network_id=network_id,
        number_format_id=number_format_id,
        scheme_id=1,
        precision="float32",
        image_count=PROBE_COUNT,
        same_prediction=int(is_same.sum()),
        non_finite_count=0,
        float_probability_sum=own.sum(),
        chosen_probability_sum=np.where(is_same, own, (1 - own) / 2).sum(),
        kl_sum=errors.sum(),
        kl_count=PROBE_COUNT,
        logit_squared_error_sum=2 * errors.sum(),
        float_logit_variance_sum=8.0 * PROBE_COUNT,
        logit_count=PROBE_COUNT,
        same_images=bits(is_same),
    )


def _counts(is_correct: NDArray[np.bool_], is_float_correct: NDArray[np.bool_]) -> dict[str, Any]:
    correct = int(is_correct.sum())
    is_same = is_correct == is_float_correct
    return {
        "precision": "float32",
        "image_count": len(is_correct),
        "correct_top1": correct,
        "correct_top5": correct,
        "correct_both": int((is_correct & is_float_correct).sum()),
        "same_prediction": int(is_same.sum()),
        "non_finite_count": 0,
        "cross_entropy_sum": 0.0,
        "cross_entropy_count": len(is_correct),
        "kl_sum": 0.0,
        "kl_count": len(is_correct),
        "correct_images": bits(is_correct),
        "same_images": bits(is_same),
    }


def bits(mask: NDArray[np.bool_]) -> str:
    """One character per image, 1 or 0."""
    return "".join(map(str, mask.astype(int)))


def _write_layer_evaluations(
    connection: duckdb.DuckDBPyConnection,
    network_id: int,
    number_format_id: int,
    kept: float,
    is_correct: NDArray[np.bool_],
) -> None:
    """An evaluation of each layer alone, at half the damage; from a seed of their own."""
    random = np.random.default_rng((network_id, number_format_id))
    layers = connection.execute(
        "select layer_id from layer where network_id = ? order by position", [network_id]
    ).fetchall()
    for (layer_id,) in layers:
        is_kept = random.random(IMAGE_COUNT) < (1 + kept) / 2
        _append(
            connection,
            "layer_evaluation",
            layer_id=layer_id,
            number_format_id=number_format_id,
            scheme_id=1,
            **_counts(is_correct & is_kept, is_correct),
        )


def write_tiny(connection: duckdb.DuckDBPyConnection) -> None:
    """One layer without bias, one with; two elements each; INT_2 has the codes -1, 0, 1."""
    networks = (
        SyntheticNetwork(
            "Tiny",
            "Tiny",
            (SyntheticLayer(2, 0, 3_000_000), SyntheticLayer(4, 1, 1_000_000)),
            0.5,
        ),
    )
    fill(connection, networks=networks, formats=FORMATS[:1], scopes=())
    for table in TENSOR_TABLES:
        connection.execute(f"delete from {table}")
    known = FORMATS[0]
    first = np.array([1.0, 0.25])
    weight = write_tensor(connection, 1, "weight", first)
    write_codes(connection, weight, 1, known, 1.0, np.array([1.0, 0.0]), first)
    second = np.array([1.0, -1.0, 1.0, 0.0])
    weight = write_tensor(connection, 2, "weight", second)
    write_codes(connection, weight, 1, known, 1.0, second, second)
    bias = write_tensor(connection, 2, "bias", np.array([0.5]))
    write_codes(connection, bias, 1, known, 1.0, np.array([0.0]), np.array([0.5]))
    float_correct = np.array([True, True, True, True, False, False])
    correct = np.array([True, True, False, False, True, False])
    connection.execute("delete from evaluation")
    connection.execute("delete from probe")
    write_evaluation(connection, 1, None, "none", float_correct, float_correct)
    write_evaluation(connection, 1, 1, "all", correct, float_correct)


def dataset(dataset_id: int) -> pl.DataFrame:
    """A row of the table dataset, to insert."""
    return pl.DataFrame(
        {
            "dataset_id": [dataset_id],
            "name": ["d"],
            "split": ["test"],
            "class_count": [10],
            "image_count": [100],
            "content_sha256": [f"hash{dataset_id}"],
        }
    )
