"""Export and import of a study with schemes other than the study's."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
import schemes
import synthetic

from ptqdb.collection.rows import delete_networks
from ptqdb.database import connect, query, read_view
from ptqdb.database.checks import check
from ptqdb.database.exchange import TABLE_NAMES, export_study, import_study
from ptqdb.errors import DataError, MismatchError

OF_OTHER_SCHEMES = ("dequantized_tensor", "dequantized_histogram", "quantized_checkpoint")
Create = Callable[[], duckdb.DuckDBPyConnection]


@pytest.fixture
def create(empty_file: Path, tmp_path: Path) -> Iterator[Create]:
    """Makes databases without facts."""
    connections: list[duckdb.DuckDBPyConnection] = []

    def make() -> duckdb.DuckDBPyConnection:
        path = Path(shutil.copy(empty_file, tmp_path / f"{len(connections)}.duckdb"))
        connections.append(connect(path, read_only=False))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    plain, formats = synthetic.NETWORKS[:1], synthetic.FORMATS[:2]
    synthetic.fill(connection, networks=plain, formats=formats, scopes=("all",))


@pytest.fixture(scope="module")
def folders(
    module_database: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Plain under the study's scheme alone, and with another."""
    alone, whole = (tmp_path_factory.mktemp("exported") / name for name in ("alone", "whole"))
    fill(module_database)
    export_study(module_database, alone)
    schemes.rewrite(module_database, "Plain", ("INT_8",))
    module_database.execute("insert into quantized_checkpoint values (1, 2, 'a')")
    export_study(module_database, whole)
    return alone, whole


@pytest.fixture
def whole(folders: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the export with both schemes, to change."""
    return Path(shutil.copytree(folders[1], tmp_path / "copy"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def change(folder: Path, table: str, *columns: pl.Expr) -> None:
    path = folder / f"{table}.parquet"
    pl.read_parquet(path).with_columns(*columns).write_parquet(path)


def rows(connection: duckdb.DuckDBPyConnection) -> dict[str, pl.DataFrame]:
    return {name: query(connection, f"from {name} order by all") for name in TABLE_NAMES}


def test_a_round_trip_is_the_same_to_the_byte(
    folders: tuple[Path, Path], tmp_path: Path, create: Create
) -> None:
    connection = create()
    added = import_study(connection, folders[1])
    assert [added[name] for name in ("scheme", *OF_OTHER_SCHEMES)][:2] == [2, 5]
    export_study(connection, tmp_path / "again")
    assert bytes_of(tmp_path / "again") == bytes_of(folders[1])
    assert set(bytes_of(folders[1])) == {f"{table}.parquet" for table in TABLE_NAMES}
    assert check(connection)
    assert all(result.has_passed for result in check(connection))
    assert len(read_view(connection, "variant(scheme := '*')")) == 3


def test_an_export_without_other_schemes_has_nothing_of_them(
    folders: tuple[Path, Path], whole: Path, create: Create
) -> None:
    """Also in a folder that had some."""
    connection = create()
    import_study(connection, folders[0])
    assert all(
        read.is_empty() for name, read in rows(connection).items() if name in OF_OTHER_SCHEMES
    )
    export_study(connection, whole)
    assert bytes_of(whole) == bytes_of(folders[0])
    names = {f"{table}.parquet" for table in TABLE_NAMES}
    assert set(bytes_of(whole)) == names - {f"{table}.parquet" for table in OF_OTHER_SCHEMES}


def test_what_cannot_be_deleted_is_named(
    folders: tuple[Path, Path], tmp_path: Path, create: Create
) -> None:
    connection = create()
    import_study(connection, folders[0])
    (tmp_path / "facts" / "dequantized_tensor.parquet").mkdir(parents=True)
    with pytest.raises(DataError, match=r"dequantized_tensor.parquet cannot be deleted: .*another"):
        export_study(connection, tmp_path / "facts")


@pytest.mark.slow
def test_another_scheme_joins_a_network_that_is_there(
    folders: tuple[Path, Path], create: Create
) -> None:
    """Its id is taken by another one there."""
    connection = create()
    import_study(connection, folders[0])
    connection.execute(
        "insert into scheme by name select 2 as scheme_id, 'taken' as name, "
        "* exclude (scheme_id, name) from scheme"
    )
    added = import_study(connection, folders[1])
    assert {name: count for name, count in added.items() if count} == {
        "scheme": 1,
        "quantized_checkpoint": 1,
        "dequantized_tensor": 5,
        "dequantized_histogram": added["dequantized_histogram"],
        "quantized_tensor_channel": 12,
        "evaluation": 1,
        "probe": 1,
    }
    for table in ("dequantized_tensor", "dequantized_histogram", "quantized_checkpoint"):
        assert query(connection, f"select distinct scheme_id from {table}").rows() == [(3,)]
    assert all(result.has_passed for result in check(connection))
    assert not any(import_study(connection, folders[1]).values())


@pytest.mark.parametrize(
    ("table", "change_of", "message"),
    [
        (
            "scheme",
            pl.lit(32, pl.Int32).alias("block_size"),
            "block_size of per_tensor_symmetric_max is 32",
        ),
        ("dequantized_tensor", pl.col("sum_y") * 1.01 + 1, "sum_y of Plain, layer0, weight, INT_8"),
        ("dequantized_tensor", pl.col("max_scale") * 1.01, "max_scale of Plain, layer0, weight"),
        ("dequantized_tensor", pl.col("storage_bits") + 1, "storage_bits of Plain, layer0, weight"),
        ("dequantized_tensor", pl.col("scale_count") + 1, "scale_count of Plain, layer0, weight"),
        (
            "quantized_checkpoint",
            pl.lit("b").alias("checkpoint_sha256"),
            "checkpoint_sha256 of Plain",
        ),
    ],
)
def test_other_facts_of_a_cell_are_refused(
    folders: tuple[Path, Path],
    whole: Path,
    create: Create,
    table: str,
    change_of: pl.Expr,
    message: str,
) -> None:
    connection = create()
    import_study(connection, folders[1])
    before = rows(connection)
    change(whole, table, change_of)
    with pytest.raises(MismatchError, match=f"{table}.parquet: {message}"):
        import_study(connection, whole)
    assert all(read.equals(before[name]) for name, read in rows(connection).items())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "quantized_tensor_channel",
            "tensor_id, number_format_id, scheme_id 1, 1, 2 is not in quantized_tensor.parquet "
            "or dequantized_tensor.parquet",
        ),
        (
            "dequantized_histogram",
            "tensor_id, number_format_id, scheme_id 1, 1, 2 is not in dequantized_tensor.parquet",
        ),
    ],
)
def test_parts_of_a_tensor_that_is_not_there_are_refused(
    whole: Path, create: Create, table: str, message: str
) -> None:
    path = whole / f"{table}.parquet"
    frame = pl.read_parquet(path)
    other = frame.filter(pl.col("scheme_id") == 2)
    moved = other.with_columns(pl.lit(1, pl.Int16).alias("number_format_id"))
    frame.filter(pl.col("scheme_id") != 2).vstack(moved).write_parquet(path)
    with pytest.raises(DataError) as caught:
        import_study(create(), whole)
    assert str(caught.value) == f"{path}: {message}"


def test_facts_in_the_wrong_table_are_refused(whole: Path, create: Create) -> None:
    change(
        whole, "scheme", pl.col("name").replace(schemes.NAME, "x").replace(synthetic.SCHEME, "y")
    )
    with pytest.raises(DataError, match="wrong_table"):
        import_study(create(), whole)


def test_a_network_is_deleted_with_its_facts_of_all_schemes(
    folders: tuple[Path, Path], create: Create
) -> None:
    connection = create()
    import_study(connection, folders[1])
    delete_networks(connection, ["Plain"])
    of_networks = {"dataset", "number_format", "number_format_code", "scheme", "collection_run"}
    left = {name for name, read in rows(connection).items() if not read.is_empty()}
    assert left <= of_networks
    assert connection.execute("select count(*) from tensor_divergence").fetchone() == (0,)
