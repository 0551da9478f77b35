"""The views and their macro against NumPy, which recomputes them from the facts."""

import csv
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import kurtosis

from ptqdb.database import connect, materialize, query, read_view, variant_names
from ptqdb.errors import UsageError
from ptqdb.number_formats import STUDY_GRID, NumberFormat
from ptqdb.resources import sql_folder

RESCALES = ("fakefreeze", "l2")
COMBINES = ("half", "nodiv", "weightratio", "weightonly")
SHARES = ("param", "flops", "layer")
CORRECTIONS = (
    "none", "cosine", "pearson", "sharpness", "coverage", "bincoverage", "sensitivity",
)  # fmt: skip
MAC_WEIGHTS = ("none", "log", "cuberoot", "sqrt", "depth", "rootdepth")
# Nine measures of histograms and the sharpness gap.
MATERIALIZED = 10
Row = dict[str, Any]
COARSE_COUNTS = (
    1365, 819, 585, 455, 315, 273, 195, 117, 105, 91, 65,
    63, 45, 39, 35, 21, 15, 13, 9, 7, 5, 3,
)  # fmt: skip


# The oracle: the formulas of sql/macros once more, in NumPy, one tensor at a time.


def oracle_histogram(
    fine: NDArray[np.int64], counts: NDArray[np.int64], bins: int
) -> dict[int, int]:
    group = 4095 // bins
    coarse = np.sign(fine) * ((np.abs(fine) + (group - 1) // 2) // group)
    return {int(bin_): int(counts[coarse == bin_].sum()) for bin_ in np.unique(coarse)}


def oracle_js(left: dict[int, int], right: dict[int, int]) -> float:
    """SciPy's distance is the square root of the divergence."""
    bins = sorted(left.keys() | right.keys())
    distance = jensenshannon(
        [left.get(bin_, 0) for bin_ in bins], [right.get(bin_, 0) for bin_ in bins], base=2
    )
    return float(distance) ** 2


class Oracle:
    """All facts of a database, and what the variants are by them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        names = ["network", "layer", "tensor", "number_format"]
        names += ["tensor_histogram", "quantized_tensor", "code_histogram"]
        tables = {name: query(connection, f"from {name}") for name in names}
        self.rows = {name: table.to_dicts() for name, table in tables.items()}
        self.histograms = tables["tensor_histogram"].partition_by("tensor_id", as_dict=True)
        self.codes = tables["code_histogram"].partition_by(
            "tensor_id", "number_format_id", as_dict=True
        )
        self.tensors: dict[int, dict[str, Row]] = {}
        for row in self.rows["tensor"]:
            self.tensors.setdefault(row["layer_id"], {})[row["role"]] = row

    def divergence(self, tensor: Row, number_format_id: int, rescale: str, bins: int) -> float:
        quantized = next(
            row
            for row in self.rows["quantized_tensor"]
            if row["tensor_id"] == tensor["tensor_id"]
            and row["number_format_id"] == number_format_id
        )
        factor = quantized["scale"]
        if rescale == "l2" and quantized["sum_codes2"] > 0:
            factor = np.sqrt(tensor["sum_x2"] / quantized["sum_codes2"])
        floats = self.histograms[tensor["tensor_id"],]
        codes = self.codes[tensor["tensor_id"], number_format_id]
        max_abs = max(abs(tensor["min_value"]), abs(tensor["max_value"]))
        fine = synthetic.fine_bins(codes["code"].to_numpy() * factor, max_abs)
        return oracle_js(
            oracle_histogram(
                floats["bin"].to_numpy().astype(int), floats["count"].to_numpy(), bins
            ),
            oracle_histogram(fine, codes["count"].to_numpy(), bins),
        )

    def table(self, rescale: str, bins: int = 63) -> dict[tuple[int, int], float]:
        """The divergence of each (tensor, format)."""
        return {
            (tensor["tensor_id"], known["number_format_id"]): self.divergence(
                tensor, known["number_format_id"], rescale, bins
            )
            for tensor in self.rows["tensor"]
            for known in self.rows["number_format"]
        }

    def network(
        self,
        network: Row,
        number_format_id: int,
        divergences: dict[tuple[int, int], float],
        words: tuple[str, str, str],
    ) -> float | None:
        """The divergence of a network under (combine, share, mac_weight)."""
        combine, share, mac_weight = words
        layers = [row for row in self.rows["layer"] if row["network_id"] == network["network_id"]]
        amounts = [{"param": x["params"], "flops": x["macs"], "layer": 1}[share] for x in layers]
        total = 0.0
        for layer, amount in zip(layers, amounts, strict=True):
            tensors = self.tensors[layer["layer_id"]]
            weight = divergences[tensors["weight"]["tensor_id"], number_format_id]
            value = weight
            if "bias" in tensors:
                bias = divergences[tensors["bias"]["tensor_id"], number_format_id]
                sizes = [tensors[role]["element_count"] for role in ("weight", "bias")]
                value = {
                    "half": (weight + bias) / 2,
                    "nodiv": weight + bias,
                    "weightratio": float(np.average([weight, bias], weights=sizes)),
                    "weightonly": weight,
                }[combine]
            total += amount / sum(amounts) * value
        mmacs, depth = network["macs"] / 1e6, len(layers)
        if mac_weight == "log":
            return total * float(np.log10(mmacs)) if mmacs > 1 else None
        factors: dict[str, float] = {"none": 1.0, "cuberoot": mmacs ** (1 / 3), "sqrt": mmacs**0.5}
        factors |= {"depth": depth, "rootdepth": depth**0.5}
        return total * factors[mac_weight]

    def expected(
        self, divergences: dict[tuple[int, int], float], words: tuple[str, str, str]
    ) -> dict[tuple[str, str], float | None]:
        return {
            (network["name"], known["name"]): self.network(
                network, known["number_format_id"], divergences, words
            )
            for network in self.rows["network"]
            for known in self.rows["number_format"]
        }


@pytest.fixture(scope="module")
def oracle(study: duckdb.DuckDBPyConnection) -> Oracle:
    return Oracle(study)


def divergences_of(frame: pl.DataFrame) -> dict[tuple[str, str], float | None]:
    return {(row["network"], row["number_format"]): row["divergence"] for row in frame.to_dicts()}


def assert_agree(
    found: dict[tuple[str, str], float | None], expected: dict[tuple[str, str], float | None]
) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12))


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("fakefreeze_param", ("half", "param", "none")),
        ("fakefreeze_flops", ("half", "flops", "none")),
        ("fakefreeze_flops_log", ("half", "flops", "log")),
        ("fakefreeze_flops_cuberoot", ("half", "flops", "cuberoot")),
    ],
)
def test_named_views_are_what_the_oracle_says(
    study: duckdb.DuckDBPyConnection, oracle: Oracle, view: str, words: tuple[str, str, str]
) -> None:
    found = divergences_of(read_view(study, view))
    assert_agree(found, oracle.expected(oracle.table("fakefreeze"), words))
    assert len(found) == len(synthetic.NETWORKS) * len(synthetic.FORMATS)
    if "log" in view:
        # 0.9 MMAC: no logarithm.
        assert found["Small", "INT_8"] is None
        assert found["Plain", "INT_8"] is not None


def test_every_combination_is_what_the_oracle_says(
    study: duckdb.DuckDBPyConnection, oracle: Oracle
) -> None:
    """One query for all: planning 144 calls takes seconds, planning one over all words does not."""
    combinations = list(itertools.product(RESCALES, COMBINES, SHARES, MAC_WEIGHTS))
    frame = query(
        study,
        "select words.*, found.network, found.number_format, found.divergence "
        f"from (values {', '.join(map(str, combinations))}) "
        "as words(rescale, combine, share, mac_weight), lateral (from variant("
        "rescale := words.rescale, combine := words.combine, share := words.share, "
        "mac_weight := words.mac_weight)) as found",
    )
    found = frame.partition_by("rescale", "combine", "share", "mac_weight", as_dict=True)
    assert found.keys() == set(combinations)
    divergences = {rescale: oracle.table(rescale) for rescale in RESCALES}
    for (rescale, *words), rows in found.items():
        assert_agree(divergences_of(rows), oracle.expected(divergences[rescale], tuple(words)))


@pytest.mark.parametrize("bins", [13, 273, 1365])
@pytest.mark.parametrize("rescale", RESCALES)
def test_other_bin_counts_are_computed_live(
    study: duckdb.DuckDBPyConnection, oracle: Oracle, rescale: str, bins: int
) -> None:
    frame = read_view(study, f"variant(rescale := '{rescale}', bins := {bins})")
    divergences = oracle.table(rescale, bins)
    assert_agree(divergences_of(frame), oracle.expected(divergences, ("half", "flops", "none")))


def test_tested_words_are_all_words(study: duckdb.DuckDBPyConnection) -> None:
    tested = {"rescale": RESCALES, "combine": COMBINES, "share": SHARES}
    tested |= {"mac_weight": MAC_WEIGHTS, "correction": CORRECTIONS}
    for parameter, words in tested.items():
        frame = query(study, f"select unnest({parameter}_words()) as word")
        assert tuple(frame["word"]) == words


# The other aggregates, and the inputs.


@pytest.mark.parametrize("aggregate", ["max", "plainsum", "mean"])
def test_aggregates_without_shares(
    study: duckdb.DuckDBPyConnection, oracle: Oracle, aggregate: str
) -> None:
    divergences = oracle.table("fakefreeze")
    expected: dict[tuple[str, str], float | None] = {}
    for network, known in itertools.product(oracle.rows["network"], oracle.rows["number_format"]):
        values = []
        for layer in oracle.rows["layer"]:
            if layer["network_id"] == network["network_id"]:
                tensors = oracle.tensors[layer["layer_id"]].values()
                ids = [(x["tensor_id"], known["number_format_id"]) for x in tensors]
                values.append(float(np.mean([divergences[x] for x in ids])))
        reduced = {"max": np.max(values), "plainsum": np.sum(values), "mean": np.mean(values)}
        expected[network["name"], known["name"]] = float(reduced[aggregate])
    assert_agree(divergences_of(read_view(study, f"variant(aggregate := '{aggregate}')")), expected)


def test_inputs_alone_and_added(tiny: duckdb.DuckDBPyConnection) -> None:
    tiny.execute("begin")
    # Relative squared errors 0.25 / 1 and 0 / 4.
    for layer_id, values, codes in ((1, [1.0, 0.0], [0.5, 0.0]), (2, [2.0, 0.0], [2.0, 0.0])):
        floats = np.array(values)
        tensor_id = synthetic.write_tensor(tiny, layer_id, "input", floats)
        synthetic.write_codes(
            tiny, tensor_id, 1, synthetic.FORMATS[0], 1.0, np.array(codes), floats
        )
    call = "variant(measure := 'nsr', share := 'layer', tensors := '{}')"
    found = {
        tensors: read_view(tiny, call.format(tensors))["divergence"].item()
        for tensors in ("parameters", "inputs", "both")
    }
    with pytest.raises(UsageError, match="measure with inputs is one of nsr, cosine, pearson"):
        read_view(tiny, "variant(tensors := 'inputs')")
    tiny.execute("rollback")
    # Layer 1 loses 1/16 of 17/16; layer 2 nothing of the weight and all of the bias.
    parameters = 0.5 * (1 / 17) + 0.5 * (0 + 1) / 2
    assert found["parameters"] == pytest.approx(parameters, rel=1e-14)
    assert found["inputs"] == pytest.approx(0.5 * 0.25)
    assert found["both"] == pytest.approx(parameters + 0.5 * 0.25)
    # Without the inputs' facts there is no row: never a partial sum.
    assert read_view(tiny, call.format("inputs")).is_empty()


# Segmented.


def test_segmented_caps_at_the_last_unsaturated_point(study: duckdb.DuckDBPyConnection) -> None:
    plain = read_view(study, "variant(mac_weight := 'log')")
    segmented = read_view(study, "segmented_variant(mac_weight := 'log')")
    assert segmented.columns == [*plain.columns, "breakpoint"]
    alive = plain.filter(~pl.col("saturated"))["divergence"].max()
    past = (plain["divergence"] > alive).sum()
    # The synthetic INT_2 keeps nothing: some points lie past, and NULL stays NULL.
    assert 0 < past < len(plain)
    assert segmented["breakpoint"].unique().to_list() == [alive]
    capped = plain.with_columns(pl.col("divergence").clip(upper_bound=pl.lit(alive)))
    assert segmented.drop("breakpoint").equals(capped)
    assert segmented["divergence"].null_count() > 0


def test_no_breakpoint_where_nothing_is_saturated(tiny: duckdb.DuckDBPyConnection) -> None:
    row = read_view(tiny, "segmented_variant()").row(0, named=True)
    assert row["breakpoint"] is None
    assert row["divergence"] == read_view(tiny, "variant()")["divergence"].item()


def test_accuracies_come_from_the_counts(study: duckdb.DuckDBPyConnection) -> None:
    frame = read_view(study, "variant(scope := 'weight')", "network = 'Plain_BN'")
    counts = query(
        study,
        "select f.name, e.* from evaluation as e join number_format as f using "
        "(number_format_id) join network as n using (network_id) "
        "where n.name = 'Plain_BN' and e.scope = 'weight'",
    )
    float_correct = query(
        study,
        "select correct_top1 from evaluation join network using (network_id) "
        "where name = 'Plain_BN' and scope = 'none'",
    ).item()
    assert len(frame) == len(counts) == len(synthetic.FORMATS)
    for row in counts.to_dicts():
        shown = frame.row(by_predicate=pl.col("number_format") == row["name"], named=True)
        assert shown["accuracy"] == row["correct_top1"] / 1000
        assert shown["float_accuracy"] == float_correct / 1000
        assert shown["accuracy_loss"] == pytest.approx(1 - row["correct_top1"] / float_correct)
        assert shown["images"] == 1000
        assert shown["architecture"] == "Plain"


# A network small enough for a pencil.


def write_tiny(connection: duckdb.DuckDBPyConnection) -> None:
    """One layer without bias, one with; two elements each; INT_2 has the codes -1, 0, 1."""
    networks = (
        synthetic.SyntheticNetwork(
            "Tiny",
            "Tiny",
            (synthetic.SyntheticLayer(2, 0, 3_000_000), synthetic.SyntheticLayer(4, 1, 1_000_000)),
            0.5,
        ),
    )
    synthetic.fill(connection, networks=networks, formats=synthetic.FORMATS[:1], scopes=())
    for table in ("tensor", "tensor_histogram", "quantized_tensor", "code_histogram"):
        connection.execute(f"delete from {table}")
    known = synthetic.FORMATS[0]
    first = np.array([1.0, 0.25])
    weight = synthetic.write_tensor(connection, 1, "weight", first)
    synthetic.write_codes(connection, weight, 1, known, 1.0, np.array([1.0, 0.0]), first)
    second = np.array([1.0, -1.0, 1.0, 0.0])
    weight = synthetic.write_tensor(connection, 2, "weight", second)
    synthetic.write_codes(connection, weight, 1, known, 1.0, second, second)
    bias = synthetic.write_tensor(connection, 2, "bias", np.array([0.5]))
    synthetic.write_codes(connection, bias, 1, known, 1.0, np.array([0.0]), np.array([0.5]))
    float_correct = np.array([True, True, True, True, False, False])
    correct = np.array([True, True, False, False, True, False])
    connection.execute("delete from evaluation")
    synthetic.write_evaluation(connection, 1, None, "none", float_correct, float_correct)
    synthetic.write_evaluation(connection, 1, 1, "all", correct, float_correct)


@pytest.fixture(scope="module")
def tiny(module_database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The pencil's network, not materialized; tests undo what they change."""
    write_tiny(module_database)
    return module_database


# Shares by MACs: 3/4 and 1/4; by params: 2/7 and 5/7.
# Layer 1: floats in the bins of 1 and 0.25, codes in those of 1 and 0: half of each side's mass
#   is shared with equal shares (term 0), half is outside: JS = 0.5 * 0.5 + 0.5 * 0.5 = 0.5.
# Layer 2: the weight is exact (0), the bias's 0.5 becomes 0, nothing shared: 1.
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("variant()", 0.75 * 0.5 + 0.25 * (0 + 1) / 2),
        ("variant(share := 'param')", 2 / 7 * 0.5 + 5 / 7 * 0.5),
        ("variant(share := 'layer', combine := 'nodiv')", 0.5 * 0.5 + 0.5 * 1),
        ("variant(combine := 'weightratio')", 0.75 * 0.5 + 0.25 * (0 * 4 + 1 * 1) / 5),
        ("variant(combine := 'weightonly')", 0.75 * 0.5),
        # 4 MMAC, two layers.
        ("variant(mac_weight := 'sqrt')", 2 * 0.5),
        ("variant(mac_weight := 'log')", np.log10(4) * 0.5),
        ("variant(mac_weight := 'cuberoot')", 4 ** (1 / 3) * 0.5),
        ("variant(mac_weight := 'depth')", 2 * 0.5),
        ("variant(mac_weight := 'rootdepth')", 2**0.5 * 0.5),
        # L2 of layer 1: sqrt((1 + 1/16) / 1) = 1.031 is the bin of 1 no more at 63 bins
        # (2047 * 1.031 = 2110 -> (2110 + 32) // 65 = 32, past the last, 31): nothing shared, 1.
        ("variant(rescale := 'l2')", 0.75 * 1 + 0.25 * 0.5),
        # At 3 bins too: (2110 + 682) // 1365 = 2. But 0.25 and 0 are both in the middle bin.
        ("variant(rescale := 'l2', bins := 3)", 0.75 * 0.5 + 0.25 * 0.5),
    ],
)  # fmt: skip
def test_tiny_network_by_hand(tiny: duckdb.DuckDBPyConnection, call: str, expected: float) -> None:
    assert read_view(tiny, call)["divergence"].to_list() == [pytest.approx(expected, abs=1e-15)]


def test_tiny_accuracies_by_hand(tiny: duckdb.DuckDBPyConnection) -> None:
    row = read_view(tiny, "variant()").row(0, named=True)
    # F = 4, Q = 3, B = 2 of 6 images.
    assert row["accuracy"] == 0.5
    assert row["float_accuracy"] == pytest.approx(4 / 6)
    assert row["accuracy_loss"] == 0.25
    # sqrt(Q / F * (Q + F - 2 B)) / F = sqrt(3 / 4 * 3) / 4
    assert row["accuracy_loss_se"] == pytest.approx(1.5 / 4)
    # Chance is 0.6 of 6 images, 3 standard errors are 3 * sqrt(0.54) = 2.2: 2.8 < 3.
    assert row["saturated"] is False
    tiny.execute("begin")
    tiny.execute("update evaluation set correct_top1 = 2 where scope = 'all'")
    is_saturated = read_view(tiny, "variant()")["saturated"].item()
    tiny.execute("rollback")
    assert is_saturated is True


def test_standard_error_is_what_resampling_finds(formulas: duckdb.DuckDBPyConnection) -> None:
    random = np.random.default_rng(1)
    float_correct = random.random(5000) < 0.8
    correct = np.where(random.random(5000) < 0.7, float_correct, random.random(5000) < 0.1)
    draws = random.integers(0, 5000, size=(2000, 5000))
    losses = 1 - correct[draws].sum(axis=1) / float_correct[draws].sum(axis=1)
    counts = [int(x.sum()) for x in (correct, float_correct, correct & float_correct)]
    formula = formulas.execute("select accuracy_loss_se($1, $2, $3)", counts).fetchall()[0][0]
    # 2000 resamplings know a standard deviation to 1 / sqrt(4000) = 1.6%; 4 times that.
    assert formula == pytest.approx(losses.std(), rel=0.064)


# What must not come out.


def test_a_missing_tensor_or_evaluation_leaves_the_row_out(
    tiny: duckdb.DuckDBPyConnection,
) -> None:
    both = (
        "select words.combine from (values ('half'), ('weightonly')) as words(combine), "
        "lateral (from variant(combine := words.combine)) as found order by all"
    )
    assert query(tiny, both)["combine"].to_list() == ["half", "weightonly"]
    for statement in (
        "delete from code_histogram where tensor_id = 3",
        "delete from tensor_histogram where tensor_id = 2",
        "delete from quantized_tensor where tensor_id = 3",
        "delete from evaluation where scope = 'none'",
        "delete from evaluation where scope = 'all'",
        "update evaluation set image_count = 5 where scope = 'none'",
    ):
        tiny.execute("begin")
        tiny.execute(statement)
        left = query(tiny, both)
        tiny.execute("rollback")
        assert left.is_empty(), statement


@pytest.mark.parametrize(
    ("argument", "valid"),
    [
        ("rescale := 'foo'", "fakefreeze, l2"),
        ("combine := 'foo'", "half, nodiv, weightratio, weightonly"),
        ("share := 'foo'", "param, flops, layer"),
        ("mac_weight := 'foo'", "none, log, cuberoot, sqrt, depth, rootdepth"),
        ("correction := 'foo'", "none"),
        ("measure := 'foo'", "js"),
        ("aggregate := 'foo'", "sum"),
        ("scope := 'foo'", "all, weight, bias, input"),
        ("scheme := 'foo'", synthetic.SCHEME),
        ("rescale := null", "fakefreeze, l2"),
        ("bins := 64", "divisor of 4095"),
        ("bins := 4095", "divisor of 4095"),
        ("bins := 1", "divisor of 4095"),
    ],
)
def test_an_invalid_word_names_the_valid_ones(
    study: duckdb.DuckDBPyConnection, argument: str, valid: str
) -> None:
    found = "NULL" if argument.endswith("null") else argument.split()[-1].strip("'")
    with pytest.raises(UsageError, match=rf"^variant: .*{valid}.*; found {found}$"):
        # Behind a filter, which must not spare the check.
        read_view(study, f"variant({argument})", "network = 'Plain'")


@pytest.mark.parametrize("argument", ["share := 'foo'", "scheme := 'foo'", "bins := 64"])
def test_an_invalid_word_is_found_without_facts(
    formulas: duckdb.DuckDBPyConnection, argument: str
) -> None:
    """Where no row could raise it."""
    with pytest.raises(UsageError, match=r"^variant: .*; found (foo|64)$"):
        read_view(formulas, f"variant({argument})")


def test_scheme_by_name(study: duckdb.DuckDBPyConnection) -> None:
    named = read_view(study, f"variant(scheme := '{synthetic.SCHEME}')")
    assert len(named) == 15
    assert named.equals(read_view(study, "variant()"))


def test_all_zero_tensors_have_no_divergence(tiny: duckdb.DuckDBPyConnection) -> None:
    tiny.execute("begin")
    for table in ("tensor", "tensor_histogram", "quantized_tensor", "code_histogram"):
        tiny.execute(f"delete from {table} where tensor_id = 1")
    zeros = np.zeros(2)
    tensor_id = synthetic.write_tensor(tiny, 1, "weight", zeros)
    synthetic.write_codes(tiny, tensor_id, 1, synthetic.FORMATS[0], 1.0, zeros, zeros)
    call = "from tensor_measure('{}', 'js', null, 63) where tensor_id = {}"
    found = [query(tiny, call.format(rescale, tensor_id)) for rescale in RESCALES]
    tiny.execute("rollback")
    assert [frame["divergence"].to_list() for frame in found] == [[0.0], [0.0]]


# Materialization.


def test_threads_do_not_change_a_bit(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database)
    results = []
    for threads in (1, 2):
        database.execute(f"set threads = {threads}")
        database.execute("delete from tensor_divergence")
        assert materialize(database) == 10 * len(synthetic.FORMATS) * 2 * MATERIALIZED
        stored = query(database, "from tensor_divergence")
        results.append((stored, read_view(database, "fakefreeze_flops_log")))
    for one, two in zip(*results, strict=True):
        assert one.equals(two)


def test_materialization_adds_what_is_missing(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database, networks=synthetic.NETWORKS[:1], formats=synthetic.FORMATS[:2])
    live = read_view(database, "fakefreeze_flops")
    assert materialize(database) == 5 * 2 * 2 * MATERIALIZED
    assert materialize(database) == 0
    assert read_view(database, "fakefreeze_flops").equals(live)
    database.execute("delete from tensor_divergence where number_format_id = 2")
    assert read_view(database, "fakefreeze_flops").equals(live)
    assert materialize(database) == 5 * 2 * MATERIALIZED
    assert read_view(database, "fakefreeze_flops").equals(live)
    # What is materialized is what is shown.
    database.execute("update tensor_divergence set value = 0")
    assert set(read_view(database, "fakefreeze_flops")["divergence"]) == {0.0}


# The formulas.


@pytest.fixture(scope="module")
def formulas(empty_file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database without facts; tests only read it."""
    connection = connect(empty_file, read_only=True)
    yield connection
    connection.close()


shares = st.lists(st.integers(0, 10**6), min_size=3, max_size=3).filter(any)


@settings(max_examples=50)
@given(left=shares, right=shares)
def test_js_is_symmetric_bounded_and_scipys(
    formulas: duckdb.DuckDBPyConnection, left: list[int], right: list[int]
) -> None:
    p, q = (np.array(x) / sum(x) for x in (left, right))
    is_shared = (p > 0) & (q > 0)
    terms = formulas.execute(
        "select js_term(p, q), js_term(q, p) from (select unnest($1) as p, unnest($2) as q)",
        [p[is_shared].tolist(), q[is_shared].tolist()],
    ).fetchall()
    assert all(one == other >= 0 for one, other in terms)
    outside = 0.5 * p[~is_shared].sum() + 0.5 * q[~is_shared].sum()
    divergence = sum(one for one, _ in terms) + outside
    assert -1e-15 <= divergence <= 1 + 1e-15
    assert divergence == pytest.approx(float(jensenshannon(p, q, base=2)) ** 2, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("relative", [1e-9, 1e-6, 1e-3, 0.0399, 0.0401, 0.3])
def test_js_term_keeps_its_digits(formulas: duckdb.DuckDBPyConnection, relative: float) -> None:
    p, q = 0.5, 0.5 * (1 + relative)
    d = (q - p) / (p + q)
    # sum over k of d^2k / (k (2k - 1)), all terms positive; 60 of them are exact for d < 0.15.
    series = sum(d ** (2 * k) / (k * (2 * k - 1)) for k in range(60, 0, -1))
    found = formulas.execute("select js_term($1, $2)", [p, q]).fetchall()[0][0]
    assert found == pytest.approx((p + q) / (4 * np.log(2)) * series, rel=1e-11)


@pytest.mark.parametrize("bins", COARSE_COUNTS)
def test_coarse_bins_partition_the_fine_ones(
    formulas: duckdb.DuckDBPyConnection, bins: int
) -> None:
    group = 4095 // bins
    rows = formulas.execute(
        "select range, coarse_bin(range, $1) from range(-2047, 2048)", [bins]
    ).fetchall()
    fine, coarse = np.array(rows).T
    # Bin k covers the fine bins within (group - 1) / 2 of k * group.
    assert (np.abs(fine - coarse * group) <= (group - 1) // 2).all()
    assert set(coarse) == set(range(-(bins // 2), bins // 2 + 1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0), (1.0, 2047), (-1.0, -2047), (1.5 / 2047, 1), (-1.5 / 2047, -1), (2.0, 4094)],
)
def test_fine_bin_ties_toward_zero(
    formulas: duckdb.DuckDBPyConnection, value: float, expected: int
) -> None:
    assert formulas.execute("select fine_bin($1, 1.0)", [value]).fetchall() == [(expected,)]
    assert formulas.execute("select fine_bin($1, 0.0)", [value]).fetchall() == [(0,)]


@pytest.mark.parametrize("known", STUDY_GRID, ids=lambda known: known.name)
def test_no_code_sits_on_a_coarse_edge(known: NumberFormat) -> None:
    """For every count that bins takes; 4095 itself it refuses, for the reason shown below."""
    position = np.array(2 * 2047 * known.magnitudes() / known.max_code)
    if known.code_count > synthetic.MAX_EXACT_CODES:
        position = 2 * np.arange(2048, dtype=np.float64)
    for bins in COARSE_COUNTS:
        group = 4095 // bins
        # In half fine bins the edges are the odd multiples of group.
        nearest_edge = (2 * np.floor(position / (2 * group)) + 1) * group
        distance = np.abs(position - nearest_edge) / 2
        # A float32 scale moves a position by up to 2^-24 of itself.
        assert (distance > np.maximum(1e-9, position / 2 * 2.0**-24)).all(), bins


def test_half_the_largest_code_sits_on_a_fine_edge() -> None:
    # 2047 * 0.5 = 1023.5: why 4095 bins are refused.
    assert 2047 * 0.5 % 1 == 0.5
    assert 4095 not in COARSE_COUNTS
    divisors = {n for n in range(3, 1366) if 4095 % n == 0}
    assert divisors == set(COARSE_COUNTS)


# The shell.


def test_the_shell_reads_the_same_numbers(empty_file: Path, tmp_path: Path) -> None:
    shell = shutil.which("duckdb", path=Path(sys.executable).parent) or shutil.which("duckdb")
    assert shell is not None
    path = Path(shutil.copy(empty_file, tmp_path / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        with_rows = synthetic.NETWORKS[:1]
        synthetic.fill(connection, networks=with_rows, formats=synthetic.FORMATS[:2])
        materialize(connection)

    def ask(sql: str) -> subprocess.CompletedProcess[str]:
        command = [shell, "-readonly", "-csv", str(path), sql]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with connect(path, read_only=True) as connection:
        for sql in (
            "select network, number_format, divergence, accuracy_loss from fakefreeze_flops_log",
            "select network, divergence from variant(bins := 21, rescale := 'l2')",
            "select kind, object, column_name, comment from data_dictionary",
        ):
            found = pl.read_csv(ask(sql).stdout.encode(), null_values="NULL")
            expected = query(connection, sql)
            assert len(found) == len(expected) > 0
            for column in expected.columns:
                if expected[column].dtype == pl.Float64:
                    assert found[column].to_list() == pytest.approx(expected[column].to_list())
                else:
                    assert found[column].to_list() == expected[column].to_list()
    refused = ask("from variant(rescale := 'foo')")
    assert refused.returncode != 0
    assert "rescale is one of fakefreeze, l2; found foo" in refused.stderr


# The hand-written views.


def test_network_overview(study: duckdb.DuckDBPyConnection) -> None:
    rows = read_view(study, "network_overview").to_dicts()
    assert [row["network"] for row in rows] == ["Plain", "Plain_BN", "Small"]
    plain = rows[0]
    assert plain["layers"] == 3
    assert plain["params"] == 900 + 12 + 2000 + 500 + 10
    assert plain["images"] == 1000
    assert plain["float_accuracy"] == pytest.approx(0.8, abs=0.05)
    cells = ["all_cells", "weight_cells", "bias_cells", "input_cells", "missing_cells"]
    assert [plain[cell] for cell in cells] == [5, 5, 0, 0, 0]


def test_missing_cells(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database, networks=synthetic.NETWORKS[:1], formats=synthetic.FORMATS[:2])
    assert read_view(database, "missing_cell").is_empty()
    database.execute("delete from evaluation where scope = 'all' and number_format_id = 2")
    cell = "{{'network': '{}', 'number_format': 'INT_8', 'scheme': '{}', 'scope': '{}'}}"
    cells = [cell.format(*x) for x in (("Gone", synthetic.SCHEME, "all"),)]
    cells += [cell.format("Plain", synthetic.SCHEME, scope) for scope in ("weight", "bias")]
    database.execute(
        "insert into collection_run by name select 1 as run_id, '' as version, '' as arguments, "
        "'cpu' as device, 0 as seed, now()::timestamp as started_at, 'failed' as outcome, "
        f"[] as failures, [{', '.join(cells)}] as cells"
    )
    found = read_view(database, "missing_cell").select("network", "number_format", "scope").rows()
    # Of the grid: all; of the run: bias, and a network that never came; weight is there.
    assert found == [
        ("Gone", "INT_8", "all"),
        ("Plain", "INT_8", "all"),
        ("Plain", "INT_8", "bias"),
    ]
    overview = read_view(database, "network_overview")
    assert overview["missing_cells"].to_list() == [2]


def test_layer_contributions_add_up(study: duckdb.DuckDBPyConnection) -> None:
    layers = read_view(study, "layer_divergence")
    key = ["network", "number_format"]
    summed = layers.group_by(key).agg(pl.col("contribution").sum())
    joined = summed.join(read_view(study, "fakefreeze_flops"), on=key)
    assert len(joined) == len(synthetic.NETWORKS) * len(synthetic.FORMATS)
    for row in joined.to_dicts():
        assert row["contribution"] == pytest.approx(row["divergence"], rel=1e-12)
    for (_, _), rows in layers.group_by(key, maintain_order=True):
        assert rows["contribution"].is_sorted(descending=True)
    for row in layers.to_dicts():
        assert row["weight_sqnr_db"] == pytest.approx(-10 * np.log10(row["weight_nsr"]))


def test_tensor_shape(database: duckdb.DuckDBPyConnection) -> None:
    write_tiny(database)
    rows = read_view(database, "tensor_shape").to_dicts()
    assert [(row["layer"], row["role"]) for row in rows] == [
        ("layer0", "weight"), ("layer1", "weight"), ("layer1", "bias"),
    ]  # fmt: skip
    values = np.array([1.0, -1.0, 1.0, 0.0])
    assert rows[1]["kurtosis"] == pytest.approx(kurtosis(values, fisher=False))
    # A single element has no spread.
    assert rows[2]["kurtosis"] is None
    # The mean |x| is 0.625 and 0.75: one of two and one of four are within.
    assert [row["mean_range_share"] for row in rows] == [0.5, 0.25, 1.0]
    assert [row["codes_used"] for row in rows] == [2, 3, 1]
    database.execute("update quantized_tensor set clipped_count = 1 where tensor_id = 2")
    clipped = read_view(database, "tensor_shape")["clipped_share"].to_list()
    assert clipped == [0, 0.25, 0]


def test_pot_crowding(study: duckdb.DuckDBPyConnection) -> None:
    points = read_view(study, "fakefreeze_flops")
    for row in read_view(study, "pot_crowding").to_dicts():
        x = points.filter(pl.col("network") == row["network"])["divergence"]
        assert row["divergence_range"] == pytest.approx(np.ptp(x.to_numpy()), rel=1e-15)
        # Of POT_4 to POT_8 the synthetic study has the first.
        assert (row["formats"], row["divergence_spread"]) == (1, 0)
        assert row["accuracy_loss_spread"] == 0
        assert row["largest_se"] > 0


def test_format_frontier(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database, networks=synthetic.NETWORKS[:1], scopes=("all",))
    # The widest format is no better than that of 2 bits.
    database.execute(
        "update evaluation set correct_top1 = (select correct_top1 from evaluation "
        "where number_format_id = 1) where number_format_id = 3"
    )
    points = read_view(database, "fakefreeze_flops")
    frontier = read_view(database, "format_frontier")
    assert len(frontier) == len({x.bits for x in synthetic.FORMATS})
    for row in frontier.to_dicts():
        of_network = points.filter(pl.col("network") == row["network"])
        least = of_network.filter(pl.col("bits") == row["bits"])["accuracy_loss"].min()
        narrower = of_network.filter(pl.col("bits") < row["bits"])["accuracy_loss"]
        assert row["accuracy_loss"] == least
        assert row["on_frontier"] == bool((narrower > least).all())
    assert set(frontier["on_frontier"]) == {True, False}


def test_data_dictionary_covers_everything(study: duckdb.DuckDBPyConnection) -> None:
    dictionary = read_view(study, "data_dictionary")
    empty = dictionary.filter(pl.col("comment").fill_null("") == "")
    assert empty.is_empty(), empty
    described = set(dictionary.select("object", "column_name").rows())
    columns = study.execute(
        "select table_name, column_name from duckdb_columns() where not internal"
    ).fetchall()
    assert len(columns) > 150
    assert set(columns) <= described
    macros = study.execute(
        "select distinct function_name from duckdb_functions() where not internal"
    ).fetchall()
    assert {(name, None) for (name,) in macros} <= described


def test_variants_have_one_set_of_columns(study: duckdb.DuckDBPyConnection) -> None:
    expected = [
        "network", "architecture", "number_format", "family", "bits", "ebits", "divergence",
        "accuracy", "float_accuracy", "accuracy_loss", "accuracy_loss_se", "images", "saturated",
    ]  # fmt: skip
    names = variant_names(study)
    # Once for all: it binds every view.
    rows = study.execute(
        "select table_name, list(column_name order by column_index) from duckdb_columns() "
        "group by table_name"
    ).fetchall()
    columns = dict(rows)
    for name in names:
        extra = ["breakpoint"] if name.endswith("_segmented") else []
        assert columns[name] == expected + extra
    assert len(names) == 96 + 6 * 7


def test_names_follow_the_grammar() -> None:
    """A view's name says what its row says, and every combination has its name."""
    with (sql_folder() / "variants.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        words = [row[x] for x in ("rescale", "combine", "share", "mac_weight", "correction")]
        words += ["segmented"] if row["segmented"] == "true" else []
        assert row["name"] == "_".join(x for x in words if x not in {"half", "none"})
    plain = {
        (row["rescale"], row["combine"], row["share"], row["mac_weight"])
        for row in rows
        if row["correction"] == "none" and row["segmented"] == "false"
    }
    assert plain == set(itertools.product(RESCALES, COMBINES, SHARES[:2], MAC_WEIGHTS))
    bases = {"l2_flops", "fakefreeze_flops", "fakefreeze_flops_log", "fakefreeze_flops_cuberoot"}
    bases |= {"fakefreeze_nodiv_flops_log", "fakefreeze_flops_depth"}
    kin = [*CORRECTIONS[1:], "segmented"]
    assert {f"{base}_{word}" for base in bases for word in kin} == {
        row["name"] for row in rows if row["correction"] != "none" or row["segmented"] == "true"
    }
