"""Opening, migrating and writing databases, and every way that it is refused."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
import synthetic

from ptqdb.database import (
    connect,
    definitions,
    insert,
    interruptible,
    list_views,
    materialize,
    next_id,
    opening,
    query,
    read_view,
    transaction,
    variant_names,
    view_names,
)
from ptqdb.errors import DatabaseError, DataError, QueryError, UsageError
from ptqdb.resources import _folder, data_folder, sql_folder

with (sql_folder() / "variants.csv").open(encoding="utf-8") as _file:
    NAMED_VIEWS = sorted(line.split(",")[0] for line in list(_file)[1:])


@pytest.fixture
def path(empty_file: Path, tmp_path: Path) -> Path:
    """A database file without facts, closed."""
    return Path(shutil.copy(empty_file, tmp_path / "study.duckdb"))


@pytest.fixture
def own_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of sql/ that ptqdb takes for its own."""
    folder = tmp_path / "sql"
    shutil.copytree(sql_folder(), folder)
    for module in (definitions, opening):
        monkeypatch.setattr(module, "sql_folder", lambda: folder)
    return folder


def dataset(dataset_id: int) -> pl.DataFrame:
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


# Opening.


def test_a_reader_sees_what_a_writer_wrote(path: Path) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    with connect(path, read_only=False) as writer:
        insert(writer, "dataset", dataset(1))
    with connect(path, read_only=True) as reader:
        assert query(reader, "select dataset_id from dataset").rows() == [(1,)]
        migrations = query(reader, "select * from migration")
        assert migrations["version"].to_list() == [1, 2, 3, 4]
        assert migrations["name"].to_list() == [
            "0001_base_tables",
            "0002_derived_tables",
            "0003_more_measures",
            "0004_unquantized_parts",
        ]
        assert all(abs(x - before) < timedelta(minutes=30) for x in migrations["applied_at"])
        with pytest.raises(DataError, match="read-only"):
            insert(reader, "dataset", dataset(2))


def test_an_empty_database_is_small(path: Path) -> None:
    # Two hundred objects in blocks of 16 KiB; at the default block size it is 5 MiB.
    assert path.stat().st_size < 1_000_000


def test_opening_again_changes_nothing(path: Path) -> None:
    content = path.read_bytes()
    connect(path, read_only=False).close()
    connect(path, read_only=True).close()
    assert path.read_bytes() == content


def text_file(path: Path) -> None:
    path.write_text("network,divergence\n" * 1000)


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def sqlite_file(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table migration (version)")
    connection.commit()
    connection.close()


def foreign_duckdb(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("create table prices (price double)")


def newer_schema(path: Path) -> None:
    connect(path, read_only=False).close()
    with duckdb.connect(path) as connection:
        connection.execute("insert into migration values (99, 'later', now()::timestamp)")


def truncated(path: Path) -> None:
    connect(path, read_only=False).close()
    path.write_bytes(path.read_bytes()[:-20_000])


def damaged(path: Path) -> None:
    connect(path, read_only=False).close()
    content = bytearray(path.read_bytes())
    content[3 * 4096 :: 500] = bytes(len(content[3 * 4096 :: 500]))
    path.write_bytes(content)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "is not a DuckDB file"),
        (empty_file, "is not a DuckDB file"),
        (sqlite_file, "is not a DuckDB file"),
        (foreign_duckdb, "is a DuckDB file without ptqdb's tables"),
        (newer_schema, "has schema version 99, this ptqdb knows 4: upgrade ptqdb"),
        (truncated, "is damaged"),
        (damaged, "is damaged"),
        (folder, "is a folder"),
    ],
)
def test_a_wrong_file_is_refused_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], reason: str, read_only: bool
) -> None:
    path = tmp_path / "wrong.duckdb"
    make(path)
    content = path.read_bytes() if path.is_file() else None
    with pytest.raises(DatabaseError, match=reason) as caught:
        connect(path, read_only=read_only)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == content
    assert list(tmp_path.iterdir()) == [path]


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="does not exist: create it with `ptqdb collect`"):
        connect(tmp_path / "none.duckdb", read_only=True)
    with pytest.raises(DatabaseError, match=r"the folder .*nowhere does not exist"):
        connect(tmp_path / "nowhere" / "x.duckdb", read_only=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that root cannot write")
def test_an_unwritable_folder() -> None:
    with pytest.raises(DatabaseError, match=r"/proc/x\.duckdb cannot be (created|written)"):
        connect(Path("/proc/x.duckdb"), read_only=False)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_locked_file_names_the_process(path: Path, read_only: bool) -> None:
    holding = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", holding, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(
            DatabaseError, match=rf"is open in another process \(PID {holder.pid}\)"
        ):
            connect(path, read_only=read_only)
        holder.communicate("\n")


def test_open_in_this_process_in_another_mode(path: Path) -> None:
    with (
        connect(path, read_only=True),
        pytest.raises(DatabaseError, match="already open in this process"),
    ):
        connect(path, read_only=False)


# Migrations and definitions.


def tables_of(path: Path) -> list[str]:
    with duckdb.connect(path, read_only=True) as connection:
        rows = connection.execute("select table_name from duckdb_tables() order by 1").fetchall()
    return [name for (name,) in rows]


def test_a_failing_migration_leaves_everything_as_it_was(path: Path, own_sql: Path) -> None:
    before = tables_of(path)
    migration = own_sql / "migrations" / "0005_more.sql"
    migration.write_text("create table more (a integer); select 1 / 0 from nothing;")
    with pytest.raises(duckdb.CatalogException, match="nothing"):
        connect(path, read_only=False)
    assert tables_of(path) == before
    with pytest.raises(DatabaseError, match="has schema version 4, this ptqdb needs 5"):
        connect(path, read_only=True)
    migration.write_text("create table more (a integer);")
    with connect(path, read_only=False) as connection:
        assert query(connection, "select max(version) from migration").item() == 5
    assert tables_of(path) == sorted([*before, "more"])


def test_migrations_are_numbered_without_gaps() -> None:
    names = sorted(file.name for file in (sql_folder() / "migrations").iterdir())
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_definitions_follow_sql(path: Path, own_sql: Path) -> None:
    with connect(path, read_only=False) as connection:
        connection.execute("create view mine as select 1 as one")
    csv = own_sql / "variants.csv"
    kept = [line for line in csv.read_text().splitlines() if not line.startswith("l2_param,")]
    added = "l2_layer,l2,half,layer,none,none,false,The network's layers alike"
    csv.write_text("\n".join([*kept, added, ""]))
    (own_sql / "macros" / "extra.sql").write_text(
        "-- Uses a macro that sorts after it.\n"
        "create or replace macro eight(x) as fine_bin(x, 1) + 8;\n"
    )
    with pytest.raises(DatabaseError, match="has the views of another version of ptqdb"):
        connect(path, read_only=True)
    with connect(path, read_only=False) as connection:
        expected = sorted({*NAMED_VIEWS, "l2_layer"} - {"l2_param"})
        assert variant_names(connection) == expected
        assert query(connection, "select eight(0)").item() == 8
        described = list_views(connection, "l2_layer")["description"].item()
        assert described == "Grain: one network in one number format. The network's layers alike."
        # What the user added stays.
        assert query(connection, "from mine").item() == 1
    (own_sql / "macros" / "extra.sql").unlink()
    with connect(path, read_only=False) as connection, pytest.raises(QueryError, match="eight"):
        query(connection, "select eight(0)")


def test_views_that_need_each_other_are_an_error(own_sql: Path, tmp_path: Path) -> None:
    for one, other in (("first", "second"), ("second", "first")):
        text = f"create or replace view {one} as select * from {other};"
        (own_sql / "views" / f"{one}.sql").write_text(text)
    with pytest.raises(ValueError, match="cycle"):
        connect(tmp_path / "new.duckdb", read_only=False)


def test_a_view_name_is_a_plain_word(own_sql: Path, tmp_path: Path) -> None:
    with (own_sql / "variants.csv").open("a") as csv:
        csv.write("x; drop table network,l2,half,layer,none,none,false,Bad\n")
    with pytest.raises(DataError, match="expected a lowercase view name, found 'x; drop"):
        connect(tmp_path / "new.duckdb", read_only=False)


# Writing.


def test_a_transaction_is_all_or_nothing(database: duckdb.DuckDBPyConnection) -> None:
    def write_and_stop(error: BaseException) -> None:
        with transaction(database):
            insert(database, "dataset", dataset(1))
            raise error

    def write_twice() -> None:
        with transaction(database):
            insert(database, "dataset", dataset(1))
            insert(database, "dataset", dataset(1))

    with pytest.raises(KeyboardInterrupt):
        write_and_stop(KeyboardInterrupt())
    assert query(database, "from dataset").is_empty()
    with pytest.raises(DataError):
        write_twice()
    assert query(database, "from dataset").is_empty()
    with transaction(database):
        insert(database, "dataset", dataset(1))
    assert len(query(database, "from dataset")) == 1


def test_a_network_is_replaced_in_one_transaction(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database, networks=synthetic.NETWORKS[2:], formats=synthetic.FORMATS[:1])
    before = {name: query(database, f"from {name}") for name in ("network", "layer", "tensor")}
    with transaction(database):
        for name in ("tensor", "layer", "evaluation", "network"):
            database.execute(f"delete from {name}")
        for name, rows in before.items():
            insert(database, name, rows)
    for name, rows in before.items():
        assert query(database, f"from {name}").equals(rows)


def test_insert_matches_columns_by_name(database: duckdb.DuckDBPyConnection) -> None:
    started = datetime(2026, 1, 2, 3, 4, 5)
    cell = {"network": "a", "number_format": "INT_8", "scheme": "s", "scope": "all"}
    run = {
        "cells": [cell],
        "failures": [],
        "outcome": "running",
        "ended_at": None,
        "started_at": started,
        "seed": 0,
        "device": "cpu",
        "arguments": "{}",
        "version": "0",
        "run_id": next_id(database, "collection_run"),
    }
    # Rows that a caller left behind must not be in the way.
    database.execute("select 1").fetchone()
    insert(database, "collection_run", pl.DataFrame([run]))
    assert query(database, "from collection_run").to_dicts() == [run]
    assert next_id(database, "collection_run") == 2
    assert next_id(database, "layer") == 1


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (dataset(1).drop("name"), "NOT NULL"),
        (dataset(1).with_columns(colour=1), "colour"),
        (dataset(1).with_columns(class_count=pl.lit("ten")), "ten"),
        (pl.concat([dataset(1), dataset(1)]), "PRIMARY KEY|[Dd]uplicate"),
    ],
)
def test_insert_says_what_does_not_fit(
    database: duckdb.DuckDBPyConnection, rows: pl.DataFrame, reason: str
) -> None:
    with pytest.raises(DataError, match=rf"cannot insert into dataset: .*({reason})"):
        insert(database, "dataset", rows)
    assert query(database, "from dataset").is_empty()


def test_ctrl_c_ends_a_statement(database: duckdb.DuckDBPyConnection) -> None:
    database.execute("create table long (a double)")
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    started = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt), transaction(database):
        interruptible(
            database,
            "insert into long select sum(sin(a.range * b.range)) "
            "from range(10000000) as a, range(10000000) as b",
        )
    assert time.monotonic() - started < 10
    assert query(database, "from long").is_empty()


def test_interruptible_passes_rows_and_errors_on(database: duckdb.DuckDBPyConnection) -> None:
    assert interruptible(database, "select 1, 'a'") == [(1, "a")]
    with pytest.raises(duckdb.CatalogException, match="nowhere"):
        interruptible(database, "select * from nowhere")


def test_materialize_of_nothing(database: duckdb.DuckDBPyConnection) -> None:
    assert materialize(database) == 0


# Reading.


def test_views_by_name_and_pattern(database: duckdb.DuckDBPyConnection) -> None:
    assert variant_names(database) == NAMED_VIEWS
    others = ["data_dictionary", "format_frontier", "layer_divergence", "missing_cell"]
    others += ["network_overview", "pot_crowding", "tensor_shape"]
    assert view_names(database) == sorted([*NAMED_VIEWS, *others])
    listed = list_views(database, "fakefreeze_flops_l*g")
    assert listed["view"].to_list() == ["fakefreeze_flops_log"]
    assert "log10" in listed["description"].item()
    assert "variant(" in listed["sql"].item()


def test_an_unknown_view_suggests_names(database: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UsageError, match="no view 'fakefrieze_flops': choose fakefreeze_flops,"):
        read_view(database, "fakefrieze_flops")
    with pytest.raises(UsageError, match=r"no view 'varian': choose variant,"):
        read_view(database, "varian(share := 'flops')")
    with pytest.raises(UsageError, match=r"no view 'zz\*'"):
        list_views(database, "zz*")


def test_an_invalid_call_is_misuse(database: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UsageError, match="does not support the supplied arguments"):
        read_view(database, "variant(colour := 'red')")
    with pytest.raises(UsageError, match="syntax error"):
        read_view(database, "variant(share := 'flops'")
    with pytest.raises(QueryError, match="colour"):
        read_view(database, "variant()", "colour = 'red'")


def test_a_condition_filters(study: duckdb.DuckDBPyConnection) -> None:
    frame = read_view(study, "fakefreeze_flops", "family = 'INT' and bits > 2")
    assert set(frame["number_format"]) == {"INT_8", "INT_14"}


def test_numbers_are_plain(database: duckdb.DuckDBPyConnection) -> None:
    frame = query(
        database,
        "select sum(range) as whole, 1.25 as exact, 10::hugeint ** 30 as huge, "
        "cast(power(10::double, 30) as hugeint) as wide from range(5)",
    )
    assert frame["whole"].to_list() == [10]
    assert frame["exact"].to_list() == [1.25]
    assert frame["wide"].to_list() == [1e30]
    assert not any(isinstance(dtype, pl.Decimal) for dtype in frame.dtypes)


def test_a_failing_query_says_where(database: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match=r"(?s)networks.*Did you mean \"network") as caught:
        query(database, "select *\nfrom networks")
    assert "LINE 2" in str(caught.value)
    with pytest.raises(QueryError, match="boom"):
        query(database, "select error('boom')")


def test_no_extension_is_fetched(database: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError):
        query(database, "select * from sqlite_scan('x.db', 'y')")
    settings = query(
        database,
        "select value from duckdb_settings() where name in "
        "('autoinstall_known_extensions', 'autoload_known_extensions')",
    )
    assert settings["value"].to_list() == ["false", "false"]


# Resources.


def test_resources_of_a_checkout_and_of_a_wheel(tmp_path: Path) -> None:
    assert (sql_folder() / "variants.csv").is_file()
    assert data_folder().name == "data"
    package = tmp_path / "ptqdb"
    with pytest.raises(DataError, match=r"_share.sql or .*sql, found neither"):
        _folder("sql", package)
    beside, inside = tmp_path / "sql", package / "_share" / "sql"
    beside.mkdir()
    assert _folder("sql", package) == beside
    inside.mkdir(parents=True)
    assert _folder("sql", package) == inside


def test_nothing_here_imports_torch() -> None:
    command = [sys.executable, "-c", "import sys, ptqdb.database; print('torch' in sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_program_ends_without_a_word(path: Path) -> None:
    """DuckDB's bindings warn at exit of types that polars still holds."""
    code = (
        "import sys; from pathlib import Path; from ptqdb.database import connect, read_view\n"
        "with connect(Path(sys.argv[1]), read_only=True) as c:\n"
        "    print(len(read_view(c, 'fakefreeze_flops')))"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
