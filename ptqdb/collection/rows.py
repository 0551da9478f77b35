"""Turns measured facts into the rows of the base tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

import duckdb
import numpy as np
import polars as pl

from ptqdb.database import insert, next_id
from ptqdb.measurement.facts import (
    AnyTensorFacts,
    Array,
    EvaluationFacts,
    FailedEvaluation,
    NetworkFacts,
    ProbeFacts,
    QuantizedTensorFacts,
    SensitivityFacts,
    TensorFacts,
    TensorKey,
)

_OF_PARTS = ("codes", "code_counts", "bins", "counts", "channel_squared_errors")


def write_network(
    connection: duckdb.DuckDBPyConnection,
    facts: NetworkFacts,
    dataset_id: int,
    calibration_dataset_id: int | None,
    evaluation: EvaluationFacts | None = None,
) -> int:
    """Write a float network's facts; return its id.

    Parameters
    ----------
    calibration_dataset_id
        None without calibration images.
    evaluation
        Of the float network; None if the network is only predicted.
    """
    network_id = next_id(connection, "network")
    values = {
        "network_id": network_id,
        "name": facts.name,
        "architecture": facts.architecture,
        "checkpoint_sha256": facts.checkpoint_sha256,
        "preprocessing": facts.preprocessing,
        "dataset_id": dataset_id,
        "calibration_dataset_id": calibration_dataset_id,
        "quantized_layer_count": len(facts.layers),
        "params": facts.params,
        "macs": facts.macs,
        "unfolded_batch_norm_count": facts.unfolded_batch_norm_count,
    }
    insert(connection, "network", pl.DataFrame([values]))
    first_layer_id = next_id(connection, "layer")
    layer_ids = {layer.name: first_layer_id + i for i, layer in enumerate(facts.layers)}
    layers = [
        asdict(layer) | {"layer_id": layer_ids[layer.name], "network_id": network_id}
        for layer in facts.layers
    ]
    insert(connection, "layer", pl.DataFrame(layers))
    if facts.unquantized:
        parts = pl.DataFrame(list(map(asdict, facts.unquantized)), infer_schema_length=None)
        insert(
            connection,
            "unquantized_part",
            parts.with_columns(pl.col("macs").cast(pl.Int64), network_id=pl.lit(network_id)),
        )
    first_tensor_id = next_id(connection, "tensor")
    tensor_ids = {key: first_tensor_id + i for i, key in enumerate(facts.tensors)}
    insert(connection, "tensor", _tensor_rows(facts.tensors, tensor_ids, layer_ids))
    channels = [
        pl.DataFrame(asdict(channel))
        .with_row_index("channel")
        .with_columns(tensor_id=pl.lit(tensor_ids[key]))
        for key, channel in facts.channels.items()
    ]
    insert(connection, "tensor_channel", pl.concat(channels))
    histogram = _histogram_rows(
        {tensor_ids[key]: (tensor.bins, tensor.counts) for key, tensor in facts.tensors.items()},
        "bin",
    )
    insert(connection, "tensor_histogram", histogram)
    if evaluation is not None:
        write_evaluation(connection, network_id, None, None, "none", evaluation)
    return network_id


def _tensor_rows(
    tensors: Mapping[TensorKey, TensorFacts],
    tensor_ids: Mapping[TensorKey, int],
    layer_ids: Mapping[str, int],
) -> pl.DataFrame:
    fields = ["element_count", "min_value", "max_value"]
    fields += ["sum_x", "sum_abs", "sum_x2", "sum_x3", "sum_x4"]
    rows = []
    for (layer, role), facts in tensors.items():
        ids = {"tensor_id": tensor_ids[layer, role], "layer_id": layer_ids[layer], "role": role}
        rows.append(ids | {field: getattr(facts, field) for field in fields})
    return pl.DataFrame(rows)


def write_quantized_tensors(
    connection: duckdb.DuckDBPyConnection,
    tensor_ids: Mapping[TensorKey, int],
    number_format_id: int,
    scheme_id: int,
    tensors: Mapping[TensorKey, AnyTensorFacts],
) -> None:
    """Write the facts of all tensors of a network in one format."""
    summaries = [
        {"tensor_id": tensor_ids[key]}
        | {
            field.name: getattr(facts, field.name)
            for field in fields(facts)
            if field.name not in _OF_PARTS
        }
        for key, facts in tensors.items()
    ]
    histograms: dict[int, tuple[Array, Array]] = {}
    table, of_histogram, value = "dequantized_tensor", "dequantized_histogram", "bin"
    for key, facts in tensors.items():
        if isinstance(facts, QuantizedTensorFacts):
            table, of_histogram, value = "quantized_tensor", "code_histogram", "code"
            histograms[tensor_ids[key]] = (facts.codes, facts.code_counts)
        else:
            histograms[tensor_ids[key]] = (facts.bins, facts.counts)
    ids = {"number_format_id": pl.lit(number_format_id), "scheme_id": pl.lit(scheme_id)}
    quantized = pl.DataFrame(summaries, infer_schema_length=None).with_columns(**ids)
    insert(connection, table, quantized)
    insert(connection, of_histogram, _histogram_rows(histograms, value).with_columns(**ids))
    errors = {
        key: facts.channel_squared_errors
        for key, facts in tensors.items()
        if facts.channel_squared_errors is not None
    }
    write_channel_errors(connection, tensor_ids, number_format_id, scheme_id, errors)


def write_quantized_checkpoint(
    connection: duckdb.DuckDBPyConnection, network_id: int, scheme_id: int, sha256: str
) -> None:
    """Write which weights a scheme of a user's own has for a network."""
    connection.execute(
        "insert into quantized_checkpoint by name select ? as network_id, ? as scheme_id, "
        "? as checkpoint_sha256 on conflict do nothing",
        [network_id, scheme_id, sha256],
    )


def write_channel_errors(
    connection: duckdb.DuckDBPyConnection,
    tensor_ids: Mapping[TensorKey, int],
    number_format_id: int,
    scheme_id: int,
    errors: Mapping[TensorKey, Array],
) -> None:
    """Write the squared errors per output channel of a network's weights in one format.

    Parameters
    ----------
    errors
        By weight, (out_channels,).
    """
    found = {tensor_ids[key]: values for key, values in errors.items()}
    lengths = list(map(len, found.values()))
    rows = pl.DataFrame(
        {
            "tensor_id": np.repeat(list(found), lengths),
            "number_format_id": number_format_id,
            "scheme_id": scheme_id,
            "channel": np.concatenate([np.arange(length) for length in lengths]),
            "squared_error_sum": np.concatenate(list(found.values())),
        }
    )
    insert(connection, "quantized_tensor_channel", rows)


def _histogram_rows(
    histograms: Mapping[int, tuple[np.ndarray, np.ndarray]], value: str
) -> pl.DataFrame:
    """All histograms as one frame: ``value, count, tensor_id``.

    They are concatenated once, since building a frame for each of hundreds of tensors takes
    longer than writing the rows.

    Parameters
    ----------
    histograms
        Values and their counts, both (n,), by the tensor's id; may be empty for some tensors.
    value
        Name of the column of values.
    """
    filled = {tensor_id: pair for tensor_id, pair in histograms.items() if len(pair[0])}
    return pl.DataFrame(
        {
            value: np.concatenate([values for values, _ in filled.values()]),
            "count": np.concatenate([counts for _, counts in filled.values()]),
            "tensor_id": np.repeat(list(filled), [len(values) for values, _ in filled.values()]),
        }
    )


def write_evaluation(
    connection: duckdb.DuckDBPyConnection,
    network_id: int,
    number_format_id: int | None,
    scheme_id: int | None,
    scope: str,
    facts: EvaluationFacts,
) -> None:
    """Write one evaluation, in place of one on fewer images."""
    ids = _cell_ids(network_id, number_format_id, scheme_id, scope)
    _delete_row(connection, "evaluation", ids)
    insert(connection, "evaluation", pl.DataFrame([ids | asdict(facts)]))


def write_probe(
    connection: duckdb.DuckDBPyConnection,
    network_id: int,
    number_format_id: int,
    scheme_id: int,
    facts: ProbeFacts,
) -> None:
    """Write the probe of a cell, in place of one on fewer images."""
    ids = {"network_id": network_id, "number_format_id": number_format_id, "scheme_id": scheme_id}
    _delete_row(connection, "probe", ids)
    insert(connection, "probe", pl.DataFrame([ids | asdict(facts)]))


def write_sensitivities(
    connection: duckdb.DuckDBPyConnection,
    layer_ids: Mapping[str, int],
    sensitivities: Mapping[str, SensitivityFacts],
) -> None:
    """Write the sensitivity of each layer of a network, by name."""
    rows = [{"layer_id": layer_ids[name]} | asdict(each) for name, each in sensitivities.items()]
    insert(connection, "layer_sensitivity", pl.DataFrame(rows))


def write_float_images(
    connection: duckdb.DuckDBPyConnection, network_id: int, facts: EvaluationFacts
) -> None:
    """Add to a stored evaluation of the float network which images it has right."""
    connection.execute(
        "update evaluation set correct_images = ?::bit, same_images = ?::bit "
        "where network_id = ? and scope = 'none'",
        [facts.correct_images, facts.same_images, network_id],
    )


def write_failed_evaluation(
    connection: duckdb.DuckDBPyConnection,
    network_id: int,
    number_format_id: int,
    scheme_id: int,
    scope: str,
    failed: FailedEvaluation,
) -> None:
    """Record that a cell cannot be evaluated, with the reason, in place of its results."""
    ids = _cell_ids(network_id, number_format_id, scheme_id, scope)
    _delete_row(connection, "evaluation", ids)
    if scope == "all":
        cell = {name: value for name, value in ids.items() if name != "scope"}
        _delete_row(connection, "probe", cell)
    insert(connection, "failed_cell", pl.DataFrame([ids | asdict(failed)]))


def write_layer_evaluation(
    connection: duckdb.DuckDBPyConnection,
    layer_id: int,
    number_format_id: int,
    scheme_id: int,
    found: EvaluationFacts | FailedEvaluation,
) -> None:
    """Write the result of a network with one layer quantized: counts, or the failure.

    It replaces an evaluation on fewer images.
    """
    table = "failed_layer_cell" if isinstance(found, FailedEvaluation) else "layer_evaluation"
    ids = {
        "layer_id": layer_id,
        "number_format_id": number_format_id,
        "scheme_id": scheme_id,
    }
    _delete_row(connection, "layer_evaluation", ids)
    insert(connection, table, pl.DataFrame([ids | asdict(found)]))


def _delete_row(
    connection: duckdb.DuckDBPyConnection, table: str, key: Mapping[str, int | str | None]
) -> None:
    """Delete the row with this key, if there is one; NULL is no key of any row."""
    condition = " and ".join(f"{column} = ?" for column in key)
    connection.execute(f"delete from {table} where {condition}", list(key.values()))


def _cell_ids(
    network_id: int, number_format_id: int | None, scheme_id: int | None, scope: str
) -> dict[str, int | str | None]:
    return {
        "network_id": network_id,
        "number_format_id": number_format_id,
        "scheme_id": scheme_id,
        "scope": scope,
    }


def read_tensor_ids(connection: duckdb.DuckDBPyConnection, network_id: int) -> dict[TensorKey, int]:
    """Return the ids of a network's tensors by layer name and role, in the order of writing."""
    found = connection.execute(
        "select l.name, t.role, t.tensor_id from tensor as t join layer as l using (layer_id) "
        "where l.network_id = ? order by t.tensor_id",
        [network_id],
    )
    return {(layer, role): tensor_id for layer, role, tensor_id in found.fetchall()}


def read_layer_ids(connection: duckdb.DuckDBPyConnection, network_id: int) -> dict[str, int]:
    """Return the ids of a network's layers by name."""
    found = connection.execute(
        "select name, layer_id from layer where network_id = ?", [network_id]
    )
    return dict(found.fetchall())


def delete_networks(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Delete the named networks with all their facts."""
    of_tensor = (
        "delete from {table} where tensor_id in (select t.tensor_id from tensor as t "
        "join layer as l using (layer_id) join network as n using (network_id) "
        "where list_contains($names, n.name))"
    )
    of_layer = (
        "delete from {table} where layer_id in (select l.layer_id from layer as l "
        "join network as n using (network_id) where list_contains($names, n.name))"
    )
    of_network = (
        "delete from {table} where network_id in "
        "(select network_id from network where list_contains($names, name))"
    )
    statements = [
        of_tensor.format(table=table)
        for table in (
            "tensor_divergence",
            "code_histogram",
            "dequantized_histogram",
            "quantized_tensor_channel",
            "quantized_tensor",
            "dequantized_tensor",
            "tensor_histogram",
            "tensor_channel",
        )
    ]
    statements += [
        of_network.format(table=table)
        for table in ("evaluation", "failed_cell", "probe", "quantized_checkpoint")
    ]
    statements += [
        *(
            of_layer.format(table=table)
            for table in ("layer_evaluation", "failed_layer_cell", "layer_sensitivity", "tensor")
        ),
        *(of_network.format(table=table) for table in ("unquantized_part", "layer", "network")),
    ]
    for statement in statements:
        connection.execute(statement, {"names": list(names)})
