"""Facts of schemes other than the study's: the same formulas, names, sizes and frontiers."""

import shutil
from collections.abc import Iterator

import duckdb
import numpy as np
import polars as pl
import pytest
import schemes
import synthetic

from ptqdb.database import (
    connect,
    materialize,
    query,
    read_view,
    uses_weights_alone,
    with_scheme,
)
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.database.variants import variant_words
from ptqdb.defaults import PREDICTION_VIEW
from ptqdb.errors import UsageError
from ptqdb.fitting.leaderboard import matching_views
from ptqdb.quantization.formats import PRESETS

FORMATS = ("INT_4", "INT_8", "POT_4", "FLOAT_6_E3", "FLOAT_8_E4")
OF_SUMS = ("js_softmax", "nsr", "coherent", "orthogonal", "cosine", "pearson", "bits")
OF_HISTOGRAMS = (
    *("js", "kl", "hellinger", "total_variation", "wasserstein", "bin_cosine", "bin_pearson"),
)
OF_GRIDS = ("uncovered", "uncovered_bins", "sharpness_gap")
OF_PROBES = ("probe_soft", "probe_agreement", "probe_kl", "probe_logit")
LOSSES = ["accuracy", "float_accuracy", "accuracy_loss", "accuracy_loss_se", "images", "saturated"]
FACTS = ["network", "family", "bits", "bits_per_weight", "ebits", *LOSSES]


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The shipped facts; those of AlexNet in some formats also as dequantized values."""
    path = tmp_path_factory.mktemp("rewritten") / "facts.duckdb"
    with open_embedded_facts() as shipped:
        rows = shipped.execute("select path from duckdb_databases() where not internal").fetchall()
        shutil.copy(rows[0][0], path)
    with connect(path, read_only=False) as connection:
        schemes.rewrite(connection, "AlexNet", FORMATS)
        materialize(connection)
        yield connection


def both(
    connection: duckdb.DuckDBPyConnection, words: str, macro: str = "variant"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same cells under the study's scheme and under the other."""
    names = ", ".join(f"'{name}'" for name in FORMATS)
    of_study = f"network = 'AlexNet' and number_format in ({names})"
    study = read_view(connection, f"{macro}({words})", of_study)
    other = read_view(connection, f"{macro}({words}, scheme := '{schemes.NAME}')")
    assert set(study["scheme"]) == {synthetic.SCHEME}
    assert set(other["scheme"]) == {schemes.NAME}
    assert len(study) == len(other) > 0
    renamed = [f"{name}@{schemes.NAME}" for name in study["number_format"]]
    assert other["number_format"].to_list() == renamed
    return study, other


# The same formulas.


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        *(f"measure := '{measure}'" for measure in OF_HISTOGRAMS + OF_SUMS + OF_PROBES),
        *(f"rescale := 'l2', measure := '{measure}'" for measure in OF_SUMS),
        "measure := 'channelnsr'",
        "bins := 21",
        "measure := 'kl', bins := 273",
        *(f"tensors := 'both', measure := '{one}'" for one in ("nsr", "cosine", "channelnsr")),
        "tensors := 'inputs', rescale := 'l2', measure := 'pearson'",
        *(f"correction := '{one}'" for one in ("cosine", "pearson", "fanin", "rootfanin")),
        "correction := 'coherence', measure := 'nsr', combine := 'weightratio'",
        "aggregate := 'max', share := 'param', mac_weight := 'sqrt'",
    ],
)
def test_the_same_facts_have_the_same_measures(
    rewritten: duckdb.DuckDBPyConnection, words: str
) -> None:
    """y = scale * code: sums to rounding, histograms bin by bin."""
    study, other = both(rewritten, words)
    assert other.select(FACTS).equals(study.select(FACTS))
    assert other["divergence"].to_list() == pytest.approx(
        study["divergence"].to_list(), rel=1e-9, abs=1e-15
    )
    assert study["divergence"].n_unique() > 1


@pytest.mark.slow
def test_l2_applies_its_factor_to_the_centres_of_the_bins(
    rewritten: duckdb.DuckDBPyConnection,
) -> None:
    """Codes moved to the centres of their bins, for the comparison, lie in the same bins."""
    size = "max_abs(min_value, max_value)"
    rewritten.execute("begin")
    try:
        rewritten.execute(
            f"update code_histogram set code = bin_centre(fine_bin(code * scale, {size}), {size}) "
            "/ scale from quantized_tensor as q join tensor as t using (tensor_id) "
            "join layer using (layer_id) join network as n using (network_id) "
            "where n.name = 'AlexNet' and q.tensor_id = code_histogram.tensor_id "
            "and q.number_format_id = code_histogram.number_format_id"
        )
        rewritten.execute("delete from tensor_divergence where scheme_id = 1")
        for measure in OF_HISTOGRAMS:
            study, other = both(rewritten, f"rescale := 'l2', measure := '{measure}'")
            assert other["divergence"].to_list() == pytest.approx(
                study["divergence"].to_list(), rel=1e-9
            ), measure
    finally:
        rewritten.execute("rollback")


@pytest.mark.slow
@pytest.mark.parametrize("measure", OF_GRIDS)
def test_without_one_grid_of_codes_there_is_nothing_to_cover(
    rewritten: duckdb.DuckDBPyConnection, measure: str
) -> None:
    corrections = {
        "uncovered": "coverage",
        "uncovered_bins": "bincoverage",
        "sharpness_gap": "sharpness",
    }
    for words in (f"measure := '{measure}'", f"correction := '{corrections[measure]}'"):
        for bins in (63, 21):
            call = f"variant({words}, bins := {bins}, scheme := '{schemes.NAME}')"
            assert read_view(rewritten, call).is_empty()
            assert len(read_view(rewritten, call.replace(schemes.NAME, "*"))) > 200


@pytest.mark.slow
def test_layers_add_up_under_every_scheme(rewritten: duckdb.DuckDBPyConnection) -> None:
    study, other = both(rewritten, "measure := 'nsr'", "layer_divergence")
    plain = ["network", "position", "layer", "fan_in", "share", "weight_channelnsr"]
    assert other.select(plain).equals(study.select(plain))
    for column in ("divergence", "contribution", "weight_nsr"):
        assert other[column].to_list() == pytest.approx(study[column].to_list(), rel=1e-9)


@pytest.mark.slow
def test_distributions_and_shapes_have_the_same_bins(
    rewritten: duckdb.DuckDBPyConnection,
) -> None:
    names = ", ".join(f"'{name}', '{name}@{schemes.NAME}'" for name in FORMATS)
    for view, columns in (
        ("tensor_distribution", "layer, role, bin, value, count, share"),
        ("tensor_shape", "layer, role, element_count, kurtosis, clipped_share"),
    ):
        each = [
            query(
                rewritten,
                f"select {columns}, split_part(number_format, '@', 1) as number_format from {view} "
                f"where network = 'AlexNet' and number_format in ({names}) "
                f"and scheme = '{scheme}' order by all",
            )
            for scheme in (synthetic.SCHEME, schemes.NAME)
        ]
        assert each[0].equals(each[1])
        assert len(each[0]) > 50
    codes = "select any_value(codes_used) from tensor_shape where scheme = 'rewritten'"
    assert rewritten.execute(codes).fetchone() == (None,)


@pytest.mark.slow
def test_every_scheme_at_once(rewritten: duckdb.DuckDBPyConnection) -> None:
    study = read_view(rewritten, "fakefreeze_flops")
    whole = read_view(rewritten, "variant(scheme := '*')")
    other = read_view(rewritten, f"variant(scheme := '{schemes.NAME}')")
    assert set(whole["scheme"]) == set(query(rewritten, "select name from scheme")["name"])
    shipped = whole.filter(~pl.col("scheme").is_in([synthetic.SCHEME, schemes.NAME]))
    assert set(shipped["number_format"]) == set(PRESETS)
    assert len(whole) == len(study) + len(other) + len(shipped)
    assert whole.filter(pl.col("scheme") == synthetic.SCHEME).equals(study)
    assert whole.filter(pl.col("scheme") == schemes.NAME).equals(other)
    assert read_view(rewritten, f"variant(scheme := '{synthetic.SCHEME}')").equals(study)


@pytest.mark.slow
def test_a_file_without_the_studys_scheme_has_no_rows_in_named_views(
    rewritten: duckdb.DuckDBPyConnection,
) -> None:
    """Not even those of the scheme with the lowest id."""
    rewritten.execute("begin")
    try:
        rewritten.execute("update scheme set name = 'another' where scheme_id = 1")
        for view in ("fakefreeze_flops", "format_frontier", "layer_divergence"):
            assert read_view(rewritten, view).is_empty()
        assert len(read_view(rewritten, f"variant(scheme := '{schemes.NAME}')")) == len(FORMATS)
    finally:
        rewritten.execute("rollback")


@pytest.mark.slow
@pytest.mark.parametrize(
    "macro", ["variant", "segmented_variant", "layer_divergence", "format_frontier", "layer_loss"]
)
def test_an_unknown_scheme_lists_the_valid_ones(
    rewritten: duckdb.DuckDBPyConnection, macro: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_view(rewritten, f"{macro}(scheme := 'mx32')")
    names = query(rewritten, "select name from scheme order by scheme_id")["name"]
    assert [names[0], names[-1]] == [synthetic.SCHEME, schemes.NAME]
    valid = ", ".join([*names, "*"])
    assert str(caught.value) == f"variant: scheme is one of {valid}; found mx32"


# By hand.


@pytest.fixture
def blocks(database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """One layer, x = (4, -4, 2, 1), y = (4, -4, 2.5, 0.5): INT_4 in two blocks.

    Its scheme stores 4 codes of 4 bits and 2 scales of 16 bits: 48 bits, 12 per weight.
    """
    layer = synthetic.SyntheticLayer(4, 0, 1_000_000)
    network = synthetic.SyntheticNetwork("Hand", "Hand", (layer,), 0.5)
    formats = tuple(x for x in synthetic.FORMATS if x.name in ("INT_8", "INT_14"))
    synthetic.fill(database, networks=(network,), formats=formats, scopes=())
    for table in (*synthetic.TENSOR_TABLES, "evaluation"):
        database.execute(f"delete from {table}")
    synthetic.write_tensor(database, 1, "weight", np.array([4.0, -4.0, 2.0, 1.0]))
    database.execute(
        "insert into scheme by name select 7 as scheme_id, 'mx32_e8m0' as name, 'block' as "
        "granularity, 'symmetric' as symmetry, 'max' as range_rule, 'weight' as quantized, "
        "'none' as calibration, 2 as block_size"
    )
    # sum y = 3; sum y^2 = 16 + 16 + 6.25 + 0.25; sum xy = 16 + 16 + 5 + 0.5; errors 0, 0, 0.5, -0.5
    database.execute(
        "insert into dequantized_tensor values "
        "(1, 1, 7, 2, 0.5, 1, 48, 0, 3, 38.5, 37.5, 0.5, null, null, null)"
    )
    # Bins of width 4 / 2047: 2.5 lies at 1279.4, 0.5 at 255.9.
    database.execute(
        "insert into dequantized_histogram values "
        "(1, 1, 7, 2047, 1), (1, 1, 7, -2047, 1), (1, 1, 7, 1279, 1), (1, 1, 7, 256, 1)"
    )
    return database


def test_a_block_by_hand(blocks: duckdb.DuckDBPyConnection) -> None:
    def measured(words: str) -> float:
        row = read_view(blocks, f"variant({words}, scheme := 'mx32_e8m0')").row(0, named=True)
        assert (row["number_format"], row["scheme"]) == ("mxint8", "mx32_e8m0")
        assert (row["bits"], row["bits_per_weight"]) == (8, 12)
        return float(row["divergence"])

    nsr = 0.5 / 37
    coherent = ((37 - 37.5) / 37) ** 2
    assert measured("measure := 'nsr'") == pytest.approx(nsr)
    assert measured("measure := 'coherent'") == pytest.approx(coherent)
    assert measured("measure := 'orthogonal'") == pytest.approx(nsr - coherent)
    cosine = 1 - 37.5 / np.sqrt(37 * 38.5)
    assert measured("measure := 'cosine'") == pytest.approx(cosine)
    assert measured("measure := 'nsr', rescale := 'l2'") == pytest.approx(2 * cosine)
    pearson = 1 - np.corrcoef([4, -4, 2, 1], [4, -4, 2.5, 0.5])[0, 1]
    assert measured("measure := 'pearson'") == pytest.approx(pearson)
    # Of 63 bins, 2 and 1 lie in bins 16 and 8, 2.5 and 0.5 in 20 and 4: half of the elements move.
    assert measured("measure := 'js'") == pytest.approx(0.5)
    assert measured("measure := 'total_variation'") == pytest.approx(0.5)
    # l2 scales by sqrt(37 / 38.5) = 0.98, to +-2007, 1254 and 251: bins 31, 19 and 4.
    assert measured("measure := 'js', rescale := 'l2'") == pytest.approx(0.5)
    # Four bins on each side, two of them the same: 1 - 2 / 4.
    assert measured("measure := 'bin_cosine'") == pytest.approx(0.5)


def test_bits_per_weight_count_the_scales(blocks: duckdb.DuckDBPyConnection) -> None:
    found = query(blocks, "from weight_storage() order by all").rows()
    # Under the study's scheme 4 elements of b bits and one scale of 32 bits: b + 8.
    assert found == [(1, 1, 1, 16.0), (1, 1, 7, 12.0), (1, 2, 1, 22.0)]
    blocks.execute("update dequantized_tensor set storage_bits = null")
    assert query(blocks, "from weight_storage() where scheme_id = 7").rows() == [(1, 1, 7, None)]


@pytest.mark.parametrize(
    ("number_format", "scheme", "name"),
    [
        ("INT_8", synthetic.SCHEME, "INT_8"),
        ("INT_8", "channel_tensor_zp", "int8"),
        ("INT_8", "mx32_e8m0", "mxint8"),
        ("FLOAT_4_E2", "nv16_e4m3", "nvfp4"),
        ("INT_4", "gguf_q4_k", "q4_K"),
        ("INT_6", "channel", "INT_6@channel"),
        ("FLOAT_32_E8", "gptq", "gptq"),
        (None, None, None),
    ],
)
def test_names_are_those_that_the_command_takes(
    formulas: duckdb.DuckDBPyConnection, number_format: str | None, scheme: str | None, name: str
) -> None:
    found = formulas.execute("select format_name(?, ?)", [number_format, scheme]).fetchone()
    assert found == (name,)


def test_the_frontier_goes_by_bits_per_weight(database: duckdb.DuckDBPyConnection) -> None:
    """One layer of 900 weights: b bits take b + 32 / 900 under the study's scheme."""
    network = synthetic.SyntheticNetwork(
        "One", "One", (synthetic.SyntheticLayer(900, 0, 1000),), 0.8
    )
    formats = synthetic.FORMATS[:3]  # INT_2, INT_8, INT_14
    synthetic.fill(database, networks=(network,), formats=formats, scopes=("all",))
    schemes.rewrite(database, "One", ("INT_2", "INT_8", "INT_14"))
    # INT_2@rewritten takes 4 bits a weight and loses little; INT_8@rewritten is better at the
    # same size; of INT_14@rewritten the size is unknown.
    bits = {1: "4 * 900", 2: "4 * 900", 3: "null"}
    for number_format_id, storage in bits.items():
        database.execute(
            f"update dequantized_tensor set storage_bits = {storage} "
            f"where number_format_id = {number_format_id}"
        )
    correct = {(1, 1): 100, (2, 1): 700, (3, 1): 699, (1, 2): 600, (2, 2): 710, (3, 2): 799}
    for (number_format_id, scheme_id), count in correct.items():
        database.execute(
            f"update evaluation set correct_top1 = {count} "
            f"where number_format_id = {number_format_id} and scheme_id = {scheme_id}"
        )
    columns = ["number_format", "bits", "bits_per_weight", "on_frontier"]
    of_study = read_view(database, "format_frontier")
    scale = 32 / 900
    assert of_study.select(columns).rows() == [
        ("INT_2", 2, 2 + scale, True),
        ("INT_8", 8, 8 + scale, True),
        ("INT_14", 14, 14 + scale, False),
    ]
    assert read_view(database, "format_frontier()").equals(of_study)
    whole = read_view(database, "format_frontier(scheme := '*')")
    assert whole.select(columns).rows() == [
        ("INT_2", 2, 2 + scale, True),
        ("INT_8@rewritten", 8, 4.0, True),
        ("INT_8", 8, 8 + scale, False),
        ("INT_14", 14, 14 + scale, False),
        ("INT_14@rewritten", 14, None, None),
    ]


def test_a_layer_alone_under_another_scheme(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database, networks=synthetic.NETWORKS[:1], scopes=("all", "layer"))
    before = read_view(database, "layer_loss")
    schemes.rewrite(database, "Plain", ("INT_8",))
    assert read_view(database, "layer_loss").equals(before)
    other = read_view(database, "layer_loss(scheme := 'rewritten')")
    assert set(other["number_format"]) == {"INT_8@rewritten"}
    same = before.filter(pl.col("number_format") == "INT_8")
    plain = pl.exclude("number_format", "scheme", "contribution")
    assert other.select(plain).equals(same.select(plain))
    assert other["contribution"].to_list() == pytest.approx(same["contribution"].to_list())
    assert len(read_view(database, "layer_loss(scheme := '*')")) == len(before) + len(same)


def test_missing_and_failed_cells_of_other_schemes(database: duckdb.DuckDBPyConnection) -> None:
    """Only the study's scheme expects its grid; of others, what a run announced."""
    synthetic.fill(database, networks=synthetic.NETWORKS[:1], formats=synthetic.FORMATS[:2])
    database.execute("update number_format set in_study_grid = true")
    schemes.rewrite(database, "Plain", ("INT_2",))
    database.execute("update scheme set name = 'mx32_e8m0' where scheme_id = 2")
    assert read_view(database, "missing_cell").is_empty()
    cell = "{{'network': 'Plain', 'number_format': '{}', 'scheme': 'mx32_e8m0', 'scope': 'all'}}"
    cells = ", ".join(map(cell.format, ("INT_2", "INT_8", "FLOAT_4_E2")))
    database.execute(
        "insert into collection_run by name select 1 as run_id, '' as version, '' as arguments, "
        "'cpu' as device, 0 as seed, now()::timestamp as started_at, 'failed' as outcome, "
        f"[] as failures, [{cells}] as cells"
    )
    expected = [("Plain", name, "mx32_e8m0", "all") for name in ("mxfp4", "mxint8")]
    assert read_view(database, "missing_cell").rows() == expected
    database.execute("insert into failed_cell values (1, 2, 2, 'all', null, 'ValueError')")
    assert read_view(database, "missing_cell").rows() == expected[:1]
    failed = read_view(database, "failed_cell_overview")
    assert failed.select("number_format", "scheme").rows() == [("mxint8", "mx32_e8m0")]


# Calls.


@pytest.mark.parametrize(
    "view",
    [
        "fakefreeze_flops",
        "l2_nodiv_param_log",
        "channelnsr_weightonly_layer_coherence",
        "fakefreeze_flops_log_segmented",
        "variant(bins := 21)",
        "segmented_variant('l2', measure := 'nsr', scheme := 'mx32_e8m0')",
    ],
)
def test_another_scheme_leaves_all_other_words(view: str) -> None:
    words = variant_words(view)
    for scheme in ("*", "it's", None):
        call = with_scheme(view, scheme)
        assert variant_words(call) == words | {"scheme": scheme}
        is_segmented = "segmented" in view
        assert call == view or call.startswith("segmented_variant(") == is_segmented
    assert with_scheme(view, words["scheme"]) == view


def test_the_scheme_of_a_users_view_cannot_be_changed() -> None:
    with pytest.raises(UsageError, match="found my_view: its scheme cannot be changed"):
        with_scheme("my_view", "*")


@pytest.fixture
def shipped() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_embedded_facts() as connection:
        yield connection


def test_a_name_with_a_scheme_stands_for_the_call(shipped: duckdb.DuckDBPyConnection) -> None:
    found = read_view(shipped, "l2_flops@mx32_e8m0")
    expected = read_view(shipped, with_scheme("l2_flops", "mx32_e8m0"))
    assert found.height == 5 * 6  # networks by mxfp8, mxfp6, mxfp4 and mxint8
    assert found.equals(expected)
    assert variant_words("l2_flops@*") == variant_words("l2_flops") | {"scheme": "*"}
    assert uses_weights_alone(f"{PREDICTION_VIEW}@*")
    views = matching_views(shipped, "nsr_layer_*depth@*")
    assert views == [
        *("nsr_layer_depth@*", "nsr_layer_rootdepth@*", "baseline_bits@*", "baseline_nsr@*"),
    ]


def test_a_name_with_a_scheme_names_the_closest(shipped: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UsageError, match="there is no view 'l2_flop': choose l2_flops"):
        read_view(shipped, "l2_flop@*")
    with pytest.raises(UsageError, match="found format_frontier: its scheme cannot be changed"):
        read_view(shipped, "format_frontier@*")
