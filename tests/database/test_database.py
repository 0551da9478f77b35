"""Writing facts and reading views, and where sql/ is found."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
import synthetic

from ptqdb.database import (
    insert,
    interruptible,
    list_views,
    materialize,
    next_id,
    query,
    read_view,
    transaction,
    variant_names,
    view_names,
)
from ptqdb.errors import DataError, QueryError, UsageError
from ptqdb.resources import _folder, data_folder, sql_folder

with (sql_folder() / "variants.csv").open(encoding="utf-8") as _file:
    NAMED_VIEWS = sorted(line.split(",")[0] for line in list(_file)[1:])


# Writing.


def test_a_transaction_is_all_or_nothing(database: duckdb.DuckDBPyConnection) -> None:
    def write_and_stop(error: BaseException) -> None:
        with transaction(database):
            insert(database, "dataset", synthetic.dataset(1))
            raise error

    def write_twice() -> None:
        with transaction(database):
            insert(database, "dataset", synthetic.dataset(1))
            insert(database, "dataset", synthetic.dataset(1))

    def write_while_ctrl_c_is_lost() -> None:
        with transaction(database):
            with suppress(KeyboardInterrupt):  # as where a finalizer raises it
                signal.raise_signal(signal.SIGINT)
            insert(database, "dataset", synthetic.dataset(1))

    with pytest.raises(KeyboardInterrupt):
        write_and_stop(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write_while_ctrl_c_is_lost()
    assert query(database, "from dataset").is_empty()
    with pytest.raises(DataError):
        write_twice()
    assert query(database, "from dataset").is_empty()
    with transaction(database):
        insert(database, "dataset", synthetic.dataset(1))
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
        (synthetic.dataset(1).drop("name"), "NOT NULL"),
        (synthetic.dataset(1).with_columns(colour=1), "colour"),
        (synthetic.dataset(1).with_columns(class_count=pl.lit("ten")), "ten"),
        (pl.concat([synthetic.dataset(1), synthetic.dataset(1)]), "PRIMARY KEY|[Dd]uplicate"),
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
    others = ["data_dictionary", "failed_cell_overview", "format_frontier", "layer_divergence"]
    others += ["layer_loss", "missing_cell", "network_overview", "pot_crowding"]
    others += ["tensor_distribution", "tensor_shape"]
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


@pytest.mark.parametrize(
    "view",
    [
        "variant(share := 'param'); drop table evaluation; --",
        "variant(share := 'param') where false",
        "variant(share := 'param'), evaluation",
        "variant(share := (select 'param'))",
        "variant(share := getenv('HOME'))",
        "variant() union all from variant()",
        "variant() order by 1",
        "variant() limit 0",
        "variant() as v",
        "variant(",
    ],
)
def test_a_view_is_a_name_or_one_call(study: duckdb.DuckDBPyConnection, view: str) -> None:
    before = query(study, "select count(*) from evaluation").item()
    with pytest.raises(UsageError, match="expected a view's name or one call"):
        read_view(study, view)
    assert query(study, "select count(*) from evaluation").item() == before


@pytest.mark.parametrize(
    "where",
    [
        "bits < 4; select 42",
        "bits < 4); drop table evaluation; --",
        "bits < 4 order by 1",
        "exists (from read_text('secret.txt'))",
        "exists (from 'secret.txt')",
        "true) union all (select 1",
        "bits <",
        "",
    ],
)
def test_a_condition_is_one_expression(study: duckdb.DuckDBPyConnection, where: str) -> None:
    with pytest.raises(QueryError, match="expected one condition on a view's columns"):
        read_view(study, "fakefreeze_flops", where)
    assert query(study, "select count(*) from evaluation").item() > 0


def test_conditions_of_every_shape(study: duckdb.DuckDBPyConnection) -> None:
    rows = read_view(study, "fakefreeze_flops")
    assert len(read_view(study, "variant(rescale := 'l2', bins := 21)")) == len(rows)
    among = "network in (select name from network)"
    for where in ("bits = 4 or bits = 8 -- both", "(family = 'INT')", among):
        assert 0 < len(read_view(study, "fakefreeze_flops", where)) <= len(rows)
