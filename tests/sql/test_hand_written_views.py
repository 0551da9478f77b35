"""The hand-written views, and what the file says of itself."""

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic
from scipy.stats import kurtosis

from ptqdb.database import read_view, variant_names
from ptqdb.errors import UsageError


def test_network_overview(study: duckdb.DuckDBPyConnection) -> None:
    rows = read_view(study, "network_overview").to_dicts()
    assert [row["network"] for row in rows] == ["Plain", "Plain_BN", "Small"]
    plain = rows[0]
    assert plain["layers"] == 3
    assert plain["params"] == 900 + 12 + 2000 + 500 + 10
    assert plain["images"] == 1000
    assert plain["float_accuracy"] == pytest.approx(0.8, abs=0.05)
    cells = ["all_cells", "weight_cells", "bias_cells", "input_cells", "layer_cells"]
    assert [plain[cell] for cell in (*cells, "missing_cells")] == [5, 5, 0, 0, 15, 0]


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
    divided = (pl.col("weight_channelnsr") / pl.col("fan_in").sqrt()).mean()
    for view, mean in (
        ("channelnsr_weightonly_layer", pl.col("weight_channelnsr").mean()),
        ("channelnsr_weightonly_layer_rootfanin", divided),
    ):
        by_network = layers.group_by(key).agg(mean.alias("mean"))
        expected = read_view(study, view).join(by_network, on=key)
        assert len(expected) == len(joined)
        assert expected["divergence"].to_list() == pytest.approx(expected["mean"])


@pytest.mark.parametrize(
    "words",
    [
        "",
        "rescale := 'l2', combine := 'weightratio', share := 'param', mac_weight := 'cuberoot'",
        "measure := 'channelnsr', share := 'layer', correction := 'rootfanin', "
        "mac_weight := 'rootdepth'",
        "combine := 'nodiv', correction := 'coverage', bins := 21, scope := 'weight'",
        "measure := 'nsr', aggregate := 'plainsum', mac_weight := 'depth'",
        "measure := 'nsr', aggregate := 'mean', scheme := 'per_tensor_symmetric_max'",
        "measure := 'kl', aggregate := 'max', mac_weight := 'log'",
    ],
)
def test_contributions_add_up_to_any_variant(study: duckdb.DuckDBPyConnection, words: str) -> None:
    aggregate = "max" if "'max'" in words else "sum"
    rows = study.execute(
        f"select v.divergence, {aggregate}(l.contribution) from variant({words}) as v "
        f"join layer_divergence({words}) as l using (network, number_format) "
        "group by network, number_format, v.divergence"
    ).fetchall()
    assert len(rows) == len(synthetic.NETWORKS) * len(synthetic.FORMATS)
    # Below 1 MMAC the logarithm is NULL, on both sides.
    assert sum(row[0] is None for row in rows) == ("'log'" in words) * len(synthetic.FORMATS)
    for divergence, added in rows:
        assert added == (None if divergence is None else pytest.approx(divergence, rel=1e-12))


def test_layer_divergence_refuses_what_variant_refuses(study: duckdb.DuckDBPyConnection) -> None:
    for words in ("share := 'macs'", "bins := 64", "measure := 'js', tensors := 'both'"):
        messages = []
        for macro in ("variant", "layer_divergence"):
            with pytest.raises(UsageError) as raised:
                read_view(study, f"{macro}({words})")
            messages.append(str(raised.value))
        assert messages[0] == messages[1]


def test_tensor_shape(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.write_tiny(database)
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


def test_distributions_give_the_divergence_that_the_views_have(
    study: duckdb.DuckDBPyConnection,
) -> None:
    bins = read_view(study, "tensor_distribution")
    key = ["network", "layer", "role", "number_format"]
    for (*_, number_format), rows in bins.group_by(key):
        assert rows["share"].sum() == pytest.approx(1)
        assert rows["bin"].is_unique().all()
        assert rows["scheme"].n_unique() == 1
        assert (rows["scheme"][0] is None) == (number_format is None)
    divergences = study.execute(
        "select network.name, layer.name, role, number_format.name, value "
        "from tensor_divergence join tensor using (tensor_id) join layer using (layer_id) "
        "join network using (network_id) join number_format using (number_format_id) "
        "where rescale = 'fakefreeze' and measure = 'js' and bins = 63"
    ).fetchall()
    tensors = sum(1 + (layer.biases > 0) for one in synthetic.NETWORKS for layer in one.layers)
    assert len(divergences) == tensors * len(synthetic.FORMATS)
    shares = {
        group: dict(rows.select("bin", "share").iter_rows()) for group, rows in bins.group_by(key)
    }
    for *tensor, number_format, value in divergences:
        p, q = shares[(*tensor, None)], shares[(*tensor, number_format)]
        shared = [(p[place], q[place]) for place in p.keys() & q.keys()]
        expected = sum(
            x / 2 * np.log2(2 * x / (x + y)) + y / 2 * np.log2(2 * y / (x + y)) for x, y in shared
        )
        expected += sum(p[place] for place in p.keys() - q.keys()) / 2
        expected += sum(q[place] for place in q.keys() - p.keys()) / 2
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_middle_of_a_bin_is_a_value(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.write_tiny(database)
    rows = read_view(database, "tensor_distribution", "layer = 'layer1' and role = 'weight'")
    found = rows.filter(pl.col("number_format").is_null())
    # 1, -1, 1 and 0: the largest lie in the bins -31 and 31, whose middle is 31 * 65 / 2047.
    assert found.select("bin", "count").rows() == [(-31, 1), (0, 1), (31, 2)]
    assert found["share"].to_list() == [0.25, 0.25, 0.5]
    assert found["value"].to_list() == pytest.approx([-31 * 65 / 2047, 0, 31 * 65 / 2047])


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
        "network", "architecture", "number_format", "scheme", "family", "bits",
        "bits_per_weight", "ebits", "divergence",
        "accuracy", "float_accuracy", "chance_accuracy", "accuracy_loss", "accuracy_loss_se",
        "images", "non_finite_images", "saturated", "weights_of",
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
    assert len(names) == 96 + 6 * 9 + 17 + 18 + 16 + 3 + 2 + 4
