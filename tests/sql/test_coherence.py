"""The correction ``coherence`` against the raw facts of the embedded study, recomputed."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic

from ptqdb.database import query, read_view
from ptqdb.database.embedded_facts import embedded_facts_folder, open_embedded_facts
from ptqdb.defaults import STUDY_SCHEME

RATIO = 0.01
VIEW = "channelnsr_nodiv_layer_coherence"
Key = tuple[str, str]


@pytest.fixture(scope="module")
def embedded() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_embedded_facts() as connection:
        yield connection


def facts(name: str) -> pl.DataFrame:
    folder = embedded_facts_folder()
    assert folder is not None
    frame = pl.read_parquet(Path(folder) / f"{name}.parquet")
    if name == "scheme" or "scheme_id" not in frame.columns:
        return frame
    of_study = facts("scheme").filter(name=STUDY_SCHEME)
    return frame.join(of_study, on="scheme_id", how="semi")


def channel_ratios() -> dict[tuple[int, int], float]:
    """The noise-to-signal ratio of the median channel of each weight in each format."""
    keys = ["tensor_id", "channel"]
    floats = facts("tensor_channel").select(*keys, "sum_x2")
    errors = facts("quantized_tensor_channel").join(floats, on=keys)
    ratio = (
        pl.when(pl.col("squared_error_sum") > 0)
        .then(pl.col("squared_error_sum") / pl.col("sum_x2"))
        .otherwise(0.0)
    )
    medians = errors.group_by("tensor_id", "number_format_id").agg(ratio.median())
    return {(tensor, known): value for tensor, known, value in medians.iter_rows()}


def oracle(*, with_bias: bool, with_input: bool) -> dict[Key, float]:
    """The divergence of every network in every format, one layer at a time."""
    channels = channel_ratios()
    layers = facts("layer").sort("network_id", "position").to_dicts()
    tensors = {(row["layer_id"], row["role"]): row for row in facts("tensor").to_dicts()}
    counts = dict(facts("tensor_channel").group_by("tensor_id").len().iter_rows())
    codes = {
        (row["tensor_id"], row["number_format_id"]): row
        for row in facts("quantized_tensor").to_dicts()
    }
    formats = dict(facts("number_format").select("number_format_id", "name").iter_rows())
    found: dict[Key, float] = {}
    for network in facts("network").to_dicts():
        own = [row for row in layers if row["network_id"] == network["network_id"]]
        for known in {key[1] for key in codes}:
            averaged, coherent = [], []
            for layer in own:
                weight = tensors[layer["layer_id"], "weight"]
                fan_in = weight["element_count"] / counts[weight["tensor_id"]]
                noise = channels[weight["tensor_id"], known]
                if with_bias and (bias := tensors.get((layer["layer_id"], "bias"))):
                    error = codes[bias["tensor_id"], known]["squared_error_sum"]
                    noise += error / bias["sum_x2"] if error else 0.0
                if with_input:
                    noise += sum(parts(tensors[layer["layer_id"], "input"], codes, known)[1:])
                averaged.append(noise / fan_in)
                coherent.append(parts(weight, codes, known)[0])
            total = float(np.mean(averaged)) + RATIO * float(np.sum(coherent))
            found[network["name"], formats[known]] = total
    return found


def parts(
    tensor: dict[str, float], codes: dict[tuple[int, int], dict[str, float]], known: int
) -> tuple[float, float]:
    """The coherent and the orthogonal part of a tensor's noise-to-signal ratio.

    The orthogonal part from the norm of the codes, not from the squared error: by Pythagoras,
    (|y|² - g² |x|²) / |x|², which loses digits where y is close to x; there, from the error.
    """
    row = codes[int(tensor["tensor_id"]), known]
    gain = row["scale"] * row["sum_code_x"] / tensor["sum_x2"]
    coherent = (1 - gain) ** 2
    norm = row["scale"] ** 2 * row["sum_codes2"] / tensor["sum_x2"]
    orthogonal = norm - gain**2
    close = row["squared_error_sum"] / tensor["sum_x2"] - coherent
    assert orthogonal == pytest.approx(close, rel=1e-6, abs=1e-9)
    return coherent, max(0.0, close)


@pytest.mark.parametrize(
    ("view", "with_bias", "with_input"),
    [
        (VIEW, True, False),
        (f"{VIEW}_both", True, True),
        (VIEW.replace("nodiv", "weightonly"), False, False),
    ],
)
def test_views_are_what_the_raw_facts_give(
    embedded: duckdb.DuckDBPyConnection, view: str, with_bias: bool, with_input: bool
) -> None:
    expected = oracle(with_bias=with_bias, with_input=with_input)
    frame = read_view(embedded, view)
    assert len(frame) == 5 * 43
    for network, known, value in frame.select("network", "number_format", "divergence").rows():
        assert value == pytest.approx(expected[network, known], rel=1e-12), (network, known)


def test_the_layers_add_up(embedded: duckdb.DuckDBPyConnection) -> None:
    words = "combine := 'nodiv', share := 'layer', correction := 'coherence'"
    call = f"layer_divergence({words}, measure := 'channelnsr', tensors := 'both')"
    added = query(
        embedded,
        f"select network, number_format, sum(contribution) as total from {call} group by all",
    )
    whole = read_view(embedded, f"{VIEW}_both")
    both = whole.join(added, on=["network", "number_format"])
    assert len(both) == 215
    assert both["total"].to_list() == pytest.approx(both["divergence"].to_list(), rel=1e-12)


def test_a_coherent_error_is_neither_averaged_nor_shared(tiny: duckdb.DuckDBPyConnection) -> None:
    """Two layers of one output channel: the fan-ins are 2 and 4."""
    tiny.execute("begin")
    tiny.execute("delete from tensor_channel where channel > 0")
    floats, codes = np.array([1.0, 2.0]), np.array([1.4, 1.8])
    for layer_id in (1, 2):
        tensor_id = synthetic.write_tensor(tiny, layer_id, "input", floats)
        kept = codes if layer_id == 1 else floats
        synthetic.write_codes(tiny, tensor_id, 1, synthetic.FORMATS[0], 1.0, kept, floats)
    call = "variant(measure := '{}', share := 'layer', correction := 'coherence', tensors := '{}')"
    found = {
        (measure, tensors): read_view(tiny, call.format(measure, tensors))["divergence"].item()
        for measure in ("nsr", "orthogonal", "coherent")
        for tensors in ("parameters", "inputs")
    }
    tiny.execute("rollback")
    # (1, 2) becomes (1.4, 1.8): the error (0.4, -0.2) is orthogonal to it, 0.2 / 5.
    assert found["nsr", "inputs"] == pytest.approx(0.2 / 5 / 2 / 2, rel=1e-12)
    assert found["orthogonal", "inputs"] == pytest.approx(0.2 / 5 / 2 / 2, rel=1e-12)
    assert found["coherent", "inputs"] == pytest.approx(0, abs=1e-15)
    # The weight (1, 0.25) of layer 1 becomes (1, 0): the gain is 16/17. Layer 2 keeps its weight,
    # and its bias becomes 0.
    coherent = (1 / 17) ** 2
    of_bias = 0.5 * 1
    averaged = {"nsr": 1 / 17, "orthogonal": 1 / 17 - coherent, "coherent": coherent}
    lost = {"nsr": of_bias, "orthogonal": 0.0, "coherent": of_bias}
    for measure, noise in averaged.items():
        # 0.01 times two layers times the mean over them.
        expected = (noise / 2 + lost[measure] / 4) / 2 + RATIO * coherent
        assert found[measure, "parameters"] == pytest.approx(expected, rel=1e-12), measure
