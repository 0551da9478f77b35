"""Selects layers and reads the histograms of their weights, float and quantized."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from ptqdb.charts.distribution import FORMATS, Distribution
from ptqdb.database import layer_call, query, read_view
from ptqdb.defaults import PREDICTION_VIEW
from ptqdb.errors import DataError, UsageError
from ptqdb.support.closest import closest_first

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Layer = tuple[str, str]
# A histogram of fewer elements has too many gaps.
LEAST_ELEMENTS = 1000
_DIVERGENCES = """
from (
    select network.name as network, layer.name as layer, number_format.name as number_format, value
    from tensor_divergence
    join chosen_scheme(null) using (scheme_id)
    join number_format using (number_format_id)
    join tensor using (tensor_id)
    join layer using (layer_id)
    join network using (network_id)
    where role = 'weight' and rescale = 'fakefreeze' and measure = 'js' and bins = 63
)
select number_format, value
"""


def layer_shapes(connection: "DuckDBPyConnection", network: str | None = None) -> pl.DataFrame:
    """Return columns ``network, layer, kurtosis, element_count`` for every weight.

    Raises
    ------
    UsageError
        No such network.
    DataError
        There is no weight.
    """
    frame = query(
        connection,
        "select network, layer, any_value(kurtosis) as kurtosis, "
        "any_value(element_count) as element_count from tensor_shape where role = 'weight' "
        "group by network, layer order by network, layer",
    )
    if frame.is_empty():
        raise DataError("expected layers with histograms, found none; collect a network first")
    if network is not None:
        from ptqdb.fitting.view_fit import select_network

        frame = select_network(frame, network)
    return frame


def choose_layers(
    connection: "DuckDBPyConnection", named: Sequence[str] = (), network: str | None = None
) -> list[Layer]:
    """Return the named layers, or else those with the highest and the lowest kurtosis.

    Layers with the same weights, as in one checkpoint under two names, count once.

    Parameters
    ----------
    named
        ``LAYER`` of the network, or ``NETWORK:LAYER``.
    network
        Choose among its layers; None: among those of all networks.

    Raises
    ------
    UsageError
        No such layer, or a layer without its network.
    """
    shapes = layer_shapes(connection, network)
    if named:
        return [_layer(shapes, name) for name in named]
    known = shapes.filter(pl.col("kurtosis").is_finite()).sort("kurtosis", "network", "layer")
    many = known.filter(pl.col("element_count") >= LEAST_ELEMENTS)
    known = many if many.height > 1 else known
    if known.is_empty():
        known = shapes
    known = _without_twins(known)
    ends = known[[-1, 0]] if known.height > 1 else known
    return [(row["network"], row["layer"]) for row in ends.rows(named=True)]


def _without_twins(shapes: pl.DataFrame) -> pl.DataFrame:
    """Keep one of the layers that share weights, that is, element count and kurtosis."""
    same = pl.struct("element_count", pl.col("kurtosis").round_sig_figs(9))
    order = shapes.sort("network", "layer").unique(same, keep="first")
    return order.sort("kurtosis", "network", "layer")


def _layer(shapes: pl.DataFrame, name: str) -> Layer:
    found = shapes.filter(
        (pl.col("layer") == name) | (pl.format("{}:{}", "network", "layer") == name)
    )
    if found.height == 1:
        return found["network"].item(), found["layer"].item()
    names = [f"{network}:{layer}" for network, layer in shapes.select("network", "layer").rows()]
    names = sorted(f"{row[0]}:{row[1]}" for row in found.select("network", "layer").rows()) or names
    few = ", ".join(closest_first(name, names)[:6])
    what = "one layer" if found.height > 1 else "a layer"
    raise UsageError(f"--layer: expected {what}, found {name!r}; choose one of {few}")


def layers_that_lose_most(connection: "DuckDBPyConnection", count: int = 2) -> list[Layer]:
    """Return, for each network, the layers that add most to its divergence in `FORMATS`."""
    frame = read_view(connection, layer_call(PREDICTION_VIEW))
    frame = frame.filter(pl.col("number_format").is_in(FORMATS))
    added = frame.group_by("network", "layer").agg(pl.col("contribution").sum())
    order = added.sort("network", "contribution", descending=[False, True])
    most = order.group_by("network", maintain_order=True).head(count)
    return [(row["network"], row["layer"]) for row in most.rows(named=True)]


def read_distributions(
    connection: "DuckDBPyConnection",
    layers: Sequence[Layer],
    formats: Sequence[str] = FORMATS,
) -> list[Distribution]:
    """Return the histograms of layers' weights, float and in the formats."""
    names = ", ".join(f"'{name}'" for name in formats)
    kurtosis = {(row[0], row[1]): row[2] for row in layer_shapes(connection).iter_rows()}
    found = []
    for network, layer in layers:
        of_layer = f"network = {_quoted(network)} and layer = {_quoted(layer)}"
        bins = read_view(
            connection,
            "tensor_distribution",
            f"{of_layer} and role = 'weight' and (number_format is null "
            f"or number_format in ({names}) "
            "and scheme = study_scheme())",
        )
        divergences = query(
            connection, _DIVERGENCES + f" where {of_layer} and number_format in ({names})"
        )
        found.append(
            Distribution(
                network,
                layer,
                bins,
                dict(divergences.iter_rows()),
                kurtosis[network, layer],
            )
        )
    return found


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
