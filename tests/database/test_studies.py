"""Export and import of a study: whole, byte for byte, mergeable, and refused where it misfits."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import synthetic

from ptqdb.database import connect, insert, query, read_view
from ptqdb.database.checks import check
from ptqdb.database.exchange import TABLE_NAMES, export_study, import_study
from ptqdb.errors import DataError, MismatchError, UsageError

PLAIN, PLAIN_BN, SMALL = synthetic.NETWORKS
FACT_TABLES = [*TABLE_NAMES, "tensor_divergence"]
# Files that an export of a study with the study's scheme alone does not have.
OF_OTHER_SCHEMES = ("dequantized_tensor", "dequantized_histogram", "quantized_checkpoint")


@pytest.fixture(scope="module")
def exported(study: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic study with a run, exported; tests only read it."""
    folder = tmp_path_factory.mktemp("exported") / "facts"
    study.execute("begin")
    insert(study, "collection_run", run(1, "Plain"))
    insert(study, "number_format_code", pl.DataFrame(CODES))
    try:
        export_study(study, folder)
    finally:
        study.execute("rollback")
    return folder


CODES = {"number_format_id": [1, 1, 1], "code_index": [-1, 0, 1], "code": [-1.0, 0.0, 1.0]}


PART = {
    "network_id": [1],
    "name": ["norm"],
    "kind": ["LayerNorm"],
    "params": [4],
    "macs": [6],
    "reason": ["not a convolution or linear layer"],
}


def run(run_id: int, network: str) -> pl.DataFrame:
    cell = {
        "network": network,
        "number_format": "INT_8",
        "scheme": synthetic.SCHEME,
        "scope": "all",
    }
    row = {
        "run_id": run_id,
        "version": "0",
        "arguments": "{}",
        "device": "cpu",
        "seed": 0,
        "started_at": "2026-01-02 03:04:05.678",
        "ended_at": None,
        "cells": [cell],
        "outcome": "done",
        "failures": [],
    }
    return pl.DataFrame([row])


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported study to spoil."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.fixture
def create(empty_file: Path, tmp_path: Path) -> Iterator[Callable[..., duckdb.DuckDBPyConnection]]:
    """Databases with or without synthetic networks."""
    opened: list[duckdb.DuckDBPyConnection] = []

    def create_one(**filling: Any) -> duckdb.DuckDBPyConnection:
        path = Path(shutil.copy(empty_file, tmp_path / f"{len(opened)}.duckdb"))
        connection = connect(path, read_only=False)
        opened.append(connection)
        if filling:
            synthetic.fill(connection, **filling)
        return connection

    yield create_one
    for connection in opened:
        connection.close()


Create = Callable[..., duckdb.DuckDBPyConnection]


def contents(connection: duckdb.DuckDBPyConnection) -> dict[str, pl.DataFrame]:
    return {table: query(connection, f"from {table} order by all") for table in FACT_TABLES}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return all(one[table].equals(other[table]) for table in FACT_TABLES)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def networks_only(folder: Path, *names: str) -> None:
    """Take the other networks out of an exported study."""
    kept = pl.read_parquet(folder / "network.parquet").filter(pl.col("name").is_in(names))
    keep(folder, "network", kept)
    keep(folder, "evaluation", kept)
    keep(folder, "probe", kept)
    keep(folder, "failed_cell", kept)
    keep(folder, "unquantized_part", kept)
    for table, parent in (
        ("layer", "network"),
        ("tensor", "layer"),
        ("tensor_channel", "tensor"),
        ("tensor_histogram", "tensor"),
        ("quantized_tensor", "tensor"),
        ("quantized_tensor_channel", "tensor"),
        ("code_histogram", "tensor"),
        ("layer_evaluation", "layer"),
        ("failed_layer_cell", "layer"),
    ):
        keep(folder, table, pl.read_parquet(folder / f"{parent}.parquet"), f"{parent}_id")


def keep(folder: Path, table: str, kept: pl.DataFrame, column: str = "network_id") -> None:
    path = folder / f"{table}.parquet"
    frame = pl.read_parquet(path)
    frame.join(kept, on=column, how="semi", maintain_order="left").write_parquet(path)


def change(folder: Path, table: str, *columns: pl.Expr) -> None:
    path = folder / f"{table}.parquet"
    pl.read_parquet(path).with_columns(*columns).write_parquet(path)


# A round trip.


def test_a_round_trip_is_the_same_to_the_byte(
    exported: Path, tmp_path: Path, create: Create, study: duckdb.DuckDBPyConnection
) -> None:
    connection = create()
    added = import_study(connection, exported)
    assert [added[name] for name in ("network", "layer", "tensor", "collection_run")] == [
        3,
        6,
        10,
        1,
    ]
    export_study(connection, tmp_path / "again")
    assert bytes_of(tmp_path / "again") == bytes_of(exported)
    assert set(bytes_of(exported)) == {f"{table}.parquet" for table in TABLE_NAMES} - {
        f"{table}.parquet" for table in OF_OTHER_SCHEMES
    }
    assert list(pl.read_parquet_schema(exported / "scheme.parquet")) == [
        *("scheme_id", "name", "granularity", "symmetry", "range_rule", "quantized"),
        "calibration",
    ]
    # What is derived was computed, and the views say the same.
    for view in ("fakefreeze_flops", "missing_cell", "network_overview"):
        assert read_view(connection, view).equals(read_view(study, view))
    assert all(result.has_passed for result in check(connection))


def test_a_file_on_disk_keeps_the_import(exported: Path, empty_file: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(empty_file, tmp_path / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        import_study(connection, exported)
        expected = contents(connection)
    with connect(path, read_only=True) as connection:
        assert same(contents(connection), expected)
        measured = expected["tensor_divergence"].filter(pl.col("measure") == "js")
        assert len(measured) == 2 * len(expected["quantized_tensor"])


def test_every_base_table_is_exported(database: duckdb.DuckDBPyConnection) -> None:
    tables = query(database, "select table_name from duckdb_tables()")["table_name"]
    assert sorted(tables) == sorted([*FACT_TABLES, "migration", "definition", "fit", "fit_fold"])


def test_importing_twice_changes_nothing(exported: Path, create: Create) -> None:
    connection = create()
    import_study(connection, exported)
    before = contents(connection)
    assert not any(import_study(connection, exported).values())
    assert same(contents(connection), before)


# Merging.


@pytest.mark.slow
def test_a_part_and_then_the_whole(exported: Path, copy: Path, create: Create) -> None:
    networks_only(copy, "Plain_BN")
    connection = create()
    assert import_study(connection, copy)["network"] == 1
    assert import_study(connection, exported)["network"] == 2
    assert import_study(connection, copy)["network"] == 0
    assert all(result.has_passed for result in check(connection))
    # Rows lie in another order under other ids, and mean the same.
    whole = create()
    import_study(whole, exported)
    assert read_view(connection, "fakefreeze_flops").equals(read_view(whole, "fakefreeze_flops"))
    for table in ("code_histogram", "tensor_histogram", "evaluation", "layer", "tensor_channel"):
        count = f"select count(*) from {table}"
        assert query(connection, count).item() == query(whole, count).item()


def test_unquantized_parts_follow_their_network(copy: Path, create: Create) -> None:
    path = copy / "unquantized_part.parquet"
    parts = pl.DataFrame(PART, schema=pl.read_parquet(path).schema)
    parts.write_parquet(path)
    is_first = pl.col("network_id") == 1
    change(copy, "network", pl.col("params") + 4 * is_first.cast(pl.Int64))
    names = pl.read_parquet(copy / "network.parquet")
    name = names.filter(pl.col("network_id") == 1)["name"].item()
    other = synthetic.SyntheticNetwork("Other", "Other", PLAIN.layers, 0.5)
    connection = create(networks=(other,), formats=synthetic.FORMATS[:1], seed=5)
    assert import_study(connection, copy)["unquantized_part"] == 1
    assert import_study(connection, copy)["unquantized_part"] == 0
    overview = f"select * from network_overview where network = '{name}'"
    found = query(connection, overview).row(0, named=True)
    layers = "select sum(l.params)::bigint from layer as l join network as n using (network_id) "
    params = query(connection, f"{layers} where n.name = '{name}'").item()
    assert found["unquantized_param_share"] == pytest.approx(4 / (4 + params))
    assert found["unquantized_mac_share"] == pytest.approx(6 / (6 + found["macs"]))
    # an export brings them back, under the ids of this database
    export_study(connection, copy)
    again = pl.read_parquet(path)
    assert again["network_id"].to_list() != [1]
    assert again.drop("network_id").equals(parts.drop("network_id"))
    connection.execute("update unquantized_part set macs = null")
    assert query(connection, overview).row(0, named=True)["unquantized_mac_share"] is None


@pytest.mark.slow
def test_ids_in_use_are_translated(exported: Path, create: Create) -> None:
    # Other networks, formats in another order: nearly every id means something else here.
    other = synthetic.SyntheticNetwork("Other", "Other", PLAIN.layers, 0.5)
    connection = create(networks=(other,), formats=synthetic.FORMATS[::-1][:3], seed=5)
    before = read_view(connection, "fakefreeze_flops")
    import_study(connection, exported)
    after = read_view(connection, "fakefreeze_flops")
    assert after.filter(pl.col("network") == "Other").equals(before)
    alone = create()
    import_study(alone, exported)
    expected = read_view(alone, "fakefreeze_flops")
    assert after.filter(pl.col("network") != "Other").equals(expected)
    assert [len(result.rows) for result in check(connection) if not result.has_passed] == []


def test_a_network_gets_only_the_cells_that_it_lacks(
    exported: Path, copy: Path, create: Create
) -> None:
    fewer = pl.read_parquet(copy / "number_format.parquet").filter(pl.col("name") != "POT_4")
    of_cells = ("quantized_tensor", "quantized_tensor_channel", "code_histogram")
    for table in ("evaluation", "probe", "layer_evaluation", *of_cells):
        path = copy / f"{table}.parquet"
        frame = pl.read_parquet(path)
        of_format = pl.col("number_format_id").is_in(fewer["number_format_id"].implode())
        frame.filter(of_format | pl.col("number_format_id").is_null()).write_parquet(path)
    # Within what two machines differ in.
    change(copy, "evaluation", pl.col("kl_sum") + 1e-4)
    connection = create()
    import_study(connection, copy)
    added = import_study(connection, exported)
    # Three networks in POT_4, in two scopes; ten tensors.
    assert {name: count for name, count in added.items() if count} == {
        "evaluation": 6,
        "probe": 3,
        "layer_evaluation": added["layer_evaluation"],
        "quantized_tensor": 10,
        "quantized_tensor_channel": 6 * synthetic.CHANNEL_COUNT,
        "code_histogram": added["code_histogram"],
    }
    # What was there stays.
    sums = query(connection, "select distinct kl_sum from evaluation order by all")
    assert sums["kl_sum"].to_list() == [0, 1e-4]
    assert all(result.has_passed for result in check(connection))


def test_a_run_of_the_same_number_is_another_run(exported: Path, create: Create) -> None:
    connection = create()
    insert(connection, "collection_run", run(1, "Small"))
    assert import_study(connection, exported)["collection_run"] == 1
    runs = query(connection, "select run_id, cells[1].network as network from collection_run")
    assert runs.sort("run_id").rows() == [(1, "Small"), (2, "Plain")]
    assert import_study(connection, exported)["collection_run"] == 0


# Refusals.

Held = tuple[duckdb.DuckDBPyConnection, dict[str, pl.DataFrame]]


@pytest.fixture(scope="module")
def held(
    exported: Path, empty_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Held]:
    """A database that holds the study, and its contents: refused imports leave it as it is."""
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("held") / "held.duckdb"))
    with connect(path, read_only=False) as connection:
        import_study(connection, exported)
        yield connection, contents(connection)


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("network", "checkpoint_sha256", "else", "checkpoint_sha256 of Small is else, in the"),
        ("network", "macs", 7, "macs of Small is 7, in the database 900000"),
        ("dataset", "image_count", 7, "image_count of synthetic is 7, in the database 1000"),
        ("scheme", "symmetry", "none", f"symmetry of {synthetic.SCHEME} is none"),
        ("number_format", "bits", 7, "bits of FLOAT_6_E3 is 7, in the database 6"),
        ("layer", "name", "x", "name of Small, position 0 is x, in the database layer0"),
        ("layer", "position", 4, "position 4 is not among the layers of its network"),
        ("tensor", "element_count", 7, "element_count of Small, layer0, weight is 7"),
    ],
)
def test_a_conflict_is_refused_whole(
    held: Held, copy: Path, table: str, column: str, value: object, said: str
) -> None:
    networks_only(copy, "Small")
    change(copy, table, pl.lit(value).alias(column).cast(_dtype(copy, table, column)))
    connection, before = held
    with pytest.raises(MismatchError) as caught:
        import_study(connection, copy)
    assert f"{table}.parquet: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(contents(connection), before)


def _dtype(folder: Path, table: str, column: str) -> pl.DataType:
    return pl.read_parquet_schema(folder / f"{table}.parquet")[column]


def test_another_calibration_set_is_a_conflict(exported: Path, copy: Path, create: Create) -> None:
    path = copy / "dataset.parquet"
    other = pl.read_parquet(path).with_columns(
        dataset_id=pl.lit(2, pl.Int32), content_sha256=pl.lit("other")
    )
    pl.concat([pl.read_parquet(path), other]).write_parquet(path)
    change(copy, "network", pl.lit(2, pl.Int32).alias("calibration_dataset_id"))
    connection = create()
    import_study(connection, exported)
    with pytest.raises(MismatchError, match="calibration_dataset_id of Plain is 2"):
        import_study(connection, copy)


@pytest.mark.parametrize(
    ("table", "spoil", "said"),
    [
        ("tensor", lambda frame: frame.drop("sum_x"), "the column sum_x (DOUBLE), found none"),
        ("layer", lambda frame: frame.with_columns(a=1), "found the column a, expected only"),
        (
            "layer",
            lambda frame: frame.with_columns(pl.col("macs").cast(pl.String)),
            "the column macs as BIGINT, found VARCHAR",
        ),
        (
            "layer",
            lambda frame: frame.with_columns(pl.col("network_id") + 10),
            "network_id 11 is not in network.parquet",
        ),
        (
            "network",
            lambda frame: frame.with_columns(pl.col("calibration_dataset_id") + 10),
            "calibration_dataset_id 11 is not in dataset.parquet",
        ),
        (
            "code_histogram",
            lambda frame: frame.with_columns(pl.col("scheme_id") + 8),
            "tensor_id, number_format_id, scheme_id 1, 1, 9 is not in quantized_tensor.parquet",
        ),
        (
            "quantized_tensor",
            lambda frame: frame.with_columns(pl.col("number_format_id") + 50),
            "number_format_id 51 is not in number_format.parquet",
        ),
        (
            "evaluation",
            lambda frame: pl.concat([frame, frame.tail(1)]),
            "expected each network_id, number_format_id, scheme_id, scope once, found",
        ),
        (
            "tensor_histogram",
            lambda frame: pl.concat([frame, frame.head(1)]),
            "expected each tensor_id, bin once, found 1, -2047 twice",
        ),
        (
            "network",
            lambda frame: frame.with_columns(network_id=pl.lit(1, pl.Int32)),
            "expected each network_id once, found 1 twice",
        ),
        (
            "network",
            lambda frame: frame.with_columns(params=pl.lit(None, pl.Int64)),
            "NOT NULL constraint failed: network.params",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_column(
    copy: Path,
    create: Create,
    table: str,
    spoil: Callable[[pl.DataFrame], pl.DataFrame],
    said: str,
) -> None:
    path = copy / f"{table}.parquet"
    spoil(pl.read_parquet(path)).write_parquet(path)
    connection = create()
    with pytest.raises(DataError) as caught:
        import_study(connection, copy)
    assert f"{table}.parquet: " in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(frame.is_empty() for frame in contents(connection).values())


def test_missing_and_damaged_files_and_folders(copy: Path, create: Create, tmp_path: Path) -> None:
    connection = create()
    with pytest.raises(DataError, match="nowhere is not a folder"):
        import_study(connection, tmp_path / "nowhere")
    (copy / "layer.parquet").write_text("layer_id,name")
    with pytest.raises(DataError, match=r"layer\.parquet cannot be read as Parquet"):
        import_study(connection, copy)
    (copy / "layer.parquet").unlink()
    with pytest.raises(DataError, match=r"layer\.parquet is missing"):
        import_study(connection, copy)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="is a file"):
        export_study(connection, file)
    with pytest.raises(DataError, match="cannot be created"):
        export_study(connection, Path("/proc/study"))


# What older versions exported.


def test_an_import_says_what_cannot_be_derived_and_keeps_the_facts(
    exported: Path, create: Create
) -> None:
    connection = create()
    connection.execute("alter table tensor_divergence add column more integer")
    connection.execute("alter table tensor_divergence alter column more set not null")
    remarks: list[str] = []
    assert import_study(connection, exported, remarks.append)["network"] == 3
    assert [remark.split(" from ")[0] for remark in remarks] == [
        "cannot derive channelnsr",
        "cannot derive histogram_measures",
        "cannot derive sharpness_gap",
    ]
    with pytest.raises(DataError, match="cannot derive channelnsr from the facts, which are kept"):
        import_study(connection, exported)
    assert query(connection, "select count(*) from network").item() == 3
