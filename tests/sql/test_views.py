"""The views and their macro against NumPy, which recomputes them from the facts."""

import csv
import itertools
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from ptqdb.database import materialize, query, read_view
from ptqdb.errors import UsageError
from ptqdb.resources import sql_folder

RESCALES = ("fakefreeze", "l2")
COMBINES = ("half", "nodiv", "weightratio", "weightonly")
SHARES = ("param", "flops", "layer")
# Those need facts that the study lacks: see tests/measurement/test_sensitivity.py.
MEASURED_SHARES = ("sensitivity",)
CORRECTIONS = (
    "none", "cosine", "pearson", "sharpness", "coverage", "bincoverage", "sensitivity",
    "fanin", "rootfanin", "coherence",
)  # fmt: skip
MAC_WEIGHTS = ("none", "log", "cuberoot", "sqrt", "depth", "rootdepth")
# Nine measures of histograms and the sharpness gap.
# ten of histograms under both rescales, and channelnsr under one
MATERIALIZED = 2 * 10 + 1
Row = dict[str, Any]


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
    tested = {"rescale": RESCALES, "combine": COMBINES, "share": SHARES + MEASURED_SHARES}
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
    with pytest.raises(UsageError, match="measure with inputs is one of nsr, coherent, orth"):
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


def test_a_network_without_evaluation_is_capped_and_moves_no_breakpoint(
    study: duckdb.DuckDBPyConnection,
) -> None:
    plain = read_view(study, "variant()")
    of_network = plain.filter(pl.col("network") == "Plain")["divergence"]
    alive = plain.filter((pl.col("network") != "Plain") & ~pl.col("saturated"))["divergence"].max()
    study.execute("begin")
    study.execute("delete from evaluation where network_id = 1")
    found = read_view(study, "segmented_variant()")
    # INT_2 alone is saturated: without it the network's own points are past all others.
    study.execute("delete from evaluation where number_format_id = 1")
    study.execute("update network set quantized_layer_count = 1000 where network_id = 1")
    deep = read_view(study, "segmented_variant(mac_weight := 'depth')")
    study.execute("rollback")
    shown = found.filter(pl.col("network") == "Plain")
    assert shown["accuracy"].null_count() == len(shown) == len(synthetic.FORMATS)
    assert found["breakpoint"].unique().to_list() == [alive]
    assert (of_network > alive).any()
    assert shown["divergence"].equals(of_network.clip(upper_bound=pl.lit(alive)))
    assert deep["breakpoint"].null_count() == len(deep)
    deepest = deep.filter(pl.col("network") == "Plain")["divergence"].to_list()
    assert deepest == pytest.approx((1000 * of_network).to_list(), rel=1e-12)


def test_chance_is_one_of_the_classes(study: duckdb.DuckDBPyConnection) -> None:
    study.execute("begin")
    study.execute("update dataset set class_count = 4")
    frame = read_view(study, "fakefreeze_flops_log_segmented")
    study.execute("rollback")
    assert frame.columns[10:12] == ["float_accuracy", "chance_accuracy"]
    assert frame["chance_accuracy"].unique().to_list() == [0.25]


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


def test_the_median_channel_has_no_l2(study: duckdb.DuckDBPyConnection) -> None:
    call = "variant('{}', measure := 'channelnsr', share := 'layer', mac_weight := 'depth')"
    found = read_view(study, call.format("fakefreeze"))
    assert found.equals(read_view(study, "channelnsr_layer_depth"))
    with pytest.raises(UsageError, match="rescale with channelnsr is one of fakefreeze; found l2"):
        read_view(study, call.format("l2"))


# Materialization.


def test_threads_do_not_change_a_bit(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database)
    results = []
    for threads in (1, 2):
        database.execute(f"set threads = {threads}")
        database.execute("delete from tensor_divergence")
        assert materialize(database) == 10 * len(synthetic.FORMATS) * MATERIALIZED
        stored = query(database, "from tensor_divergence")
        results.append((stored, read_view(database, "fakefreeze_flops_log")))
    for one, two in zip(*results, strict=True):
        assert one.equals(two)


def test_materialization_adds_what_is_missing(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database, networks=synthetic.NETWORKS[:1], formats=synthetic.FORMATS[:2])
    live = read_view(database, "fakefreeze_flops")
    assert materialize(database) == 5 * 2 * MATERIALIZED
    assert materialize(database) == 0
    assert read_view(database, "fakefreeze_flops").equals(live)
    database.execute("delete from tensor_divergence where number_format_id = 2")
    assert read_view(database, "fakefreeze_flops").equals(live)
    assert materialize(database) == 5 * MATERIALIZED
    assert read_view(database, "fakefreeze_flops").equals(live)
    # What is materialized is what is shown.
    database.execute("update tensor_divergence set value = 0")
    assert set(read_view(database, "fakefreeze_flops")["divergence"]) == {0.0}


# Names.


def test_names_follow_the_grammar() -> None:
    """A view's name says what its row says, and every combination has its name."""
    with (sql_folder() / "variants.csv").open(encoding="utf-8", newline="") as file:
        every = list(csv.DictReader(file))
    baselines = [row for row in every if row["name"].startswith("baseline_")]
    assert [(row["name"], row["measure"]) for row in baselines] == [
        ("baseline_bits", "bits"),
        ("baseline_nsr", "nsr"),
    ]
    ratios = [
        row for row in every if row["measure"] in {"nsr", "channelnsr"} and row not in baselines
    ]
    chosen = itertools.product(
        ("nsr", "channelnsr"),
        ("half", "weightonly"),
        SHARES,
        ("none", "depth", "rootdepth"),
    )
    corrected = itertools.product(
        ("nsr", "channelnsr"),
        ("half", "weightonly"),
        ("layer",),
        ("none", "rootdepth"),
        ("fanin", "rootfanin"),
    )
    coherent = {
        ("channelnsr", combine, "layer", "none", "coherence", tensors)
        for combine, tensors in (
            ("nodiv", "parameters"),
            ("nodiv", "both"),
            ("weightonly", "parameters"),
        )
    }
    parts = ("measure", "combine", "share", "mac_weight", "correction", "tensors")
    of_parameters = {(*words, "none") for words in chosen} | set(corrected)
    # the one that is missing is baseline_nsr
    assert {tuple(row[part] for part in parts) for row in ratios} == (
        {(*words, "parameters") for words in of_parameters} | coherent
    ) - {("nsr", "weightonly", "layer", "none", "none", "parameters")}
    for row in ratios:
        assert (row["rescale"], row["segmented"]) == ("fakefreeze", "false")
        words = [row[part] for part in parts]
        assert row["name"] == "_".join(x for x in words if x not in {"half", "none", "parameters"})
    probes = [row for row in every if row["measure"].startswith("probe_")]
    assert len(probes) == 4
    for row in probes:
        assert row["name"] == row["measure"]
        assert (row["tensors"], row["segmented"]) == ("parameters", "false")
    rows = [row for row in every if row not in (*baselines, *ratios, *probes)]
    for row in rows:
        assert (row["measure"], row["tensors"]) == ("js", "parameters")
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
    kin = [*(word for word in CORRECTIONS[1:] if word != "coherence"), "segmented"]
    assert {f"{base}_{word}" for base in bases for word in kin} == {
        row["name"] for row in rows if row["correction"] != "none" or row["segmented"] == "true"
    }
