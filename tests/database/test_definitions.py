"""Migrations, and macros and views that follow sql/."""

import shutil
from pathlib import Path

import duckdb
import pytest

from ptqdb.database import (
    connect,
    definitions,
    list_views,
    query,
    schema,
    variant_names,
    variants,
)
from ptqdb.errors import DatabaseError, DataError, QueryError
from ptqdb.resources import sql_folder

with (sql_folder() / "variants.csv").open(encoding="utf-8") as _file:
    NAMED_VIEWS = sorted(line.split(",")[0] for line in list(_file)[1:])


@pytest.fixture
def own_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of sql/ that ptqdb takes for its own."""
    folder = tmp_path / "sql"
    shutil.copytree(sql_folder(), folder)
    for module in (definitions, schema, variants):
        monkeypatch.setattr(module, "sql_folder", lambda: folder)
    return folder


def tables_of(path: Path) -> list[str]:
    with duckdb.connect(path, read_only=True) as connection:
        rows = connection.execute("select table_name from duckdb_tables() order by 1").fetchall()
    return [name for (name,) in rows]


def test_a_failing_migration_leaves_everything_as_it_was(path: Path, own_sql: Path) -> None:
    before = tables_of(path)
    latest = len(list((own_sql / "migrations").iterdir()))
    migration = own_sql / "migrations" / f"{latest + 1:04}_more.sql"
    migration.write_text("create table more (a integer); select 1 / 0 from nothing;")
    with pytest.raises(duckdb.CatalogException, match="nothing"):
        connect(path, read_only=False)
    assert tables_of(path) == before
    with pytest.raises(DatabaseError, match=f"version {latest}, but this ptqdb needs {latest + 1}"):
        connect(path, read_only=True)
    migration.write_text("create table more (a integer);")
    with connect(path, read_only=False) as connection:
        assert query(connection, "select max(version) from migration").item() == latest + 1
    assert tables_of(path) == sorted([*before, "more"])


def test_migrations_are_numbered_without_gaps() -> None:
    names = sorted(file.name for file in (sql_folder() / "migrations").iterdir())
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


@pytest.mark.slow
def test_definitions_follow_sql(path: Path, own_sql: Path) -> None:
    with connect(path, read_only=False) as connection:
        connection.execute("create view mine as select 1 as one")
    csv = own_sql / "variants.csv"
    kept = [line for line in csv.read_text().splitlines() if not line.startswith("l2_param,")]
    added = "l2_layer,l2,half,layer,none,none,js,parameters,false,The network's layers alike"
    csv.write_text("\n".join([*kept, added, ""]))
    (own_sql / "macros" / "extra.sql").write_text(
        "-- Uses a macro of another file.\n"
        "create or replace macro eight(x) as fine_bin(x, 1) + 8;\n"
    )
    order = own_sql / "load_order.csv"
    before = order.read_text()
    order.write_text(f"{before}macros/extra.sql\n")
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
    order.write_text(before)
    with connect(path, read_only=False) as connection, pytest.raises(QueryError, match="eight"):
        query(connection, "select eight(0)")


def test_named_views_are_as_if_created_over_the_formula(path: Path) -> None:
    """They are created over an empty table in its place, which is ten times as fast."""
    catalog = (
        "select view_name, sql, list((column_name, data_type) order by column_index) "
        "from duckdb_views() join duckdb_columns() on view_name = table_name "
        "where not duckdb_views.internal group by all order by all"
    )
    with connect(path, read_only=False) as connection:
        created = connection.execute(catalog).fetchall()
        assert len(created) > len(NAMED_VIEWS)
        temporary = "select 1 from duckdb_functions() where database_name = 'temp'"
        assert connection.execute(temporary).fetchall() == []
        assert connection.execute("select 1 from duckdb_tables() where temporary").fetchall() == []
        for name in ("fakefreeze_flops_log", "l2_flops_sensitivity", "l2_flops_segmented"):
            (sql,) = list_views(connection, name)["sql"]
            connection.execute(sql.replace("CREATE VIEW", "create or replace view"))
        assert connection.execute(catalog).fetchall() == created


def test_every_file_of_macros_and_views_has_a_place_in_the_order() -> None:
    listed = [row["file"] for row in variants.read_csv("load_order.csv")]
    folder = sql_folder()
    files = [file for kind in ("macros", "views") for file in (folder / kind).glob("*.sql")]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {"variants.csv", *(str(file.relative_to(folder)) for file in files)}


def test_a_file_before_what_it_needs_is_an_error(own_sql: Path, tmp_path: Path) -> None:
    order = own_sql / "load_order.csv"
    head, first, *rest = order.read_text().splitlines()
    order.write_text("\n".join([head, *rest, first]))
    with pytest.raises(duckdb.CatalogException, match="does not exist"):
        connect(tmp_path / "new.duckdb", read_only=False)


def test_a_view_name_is_a_plain_word(own_sql: Path, tmp_path: Path) -> None:
    with (own_sql / "variants.csv").open("a") as csv:
        csv.write("x; drop table network,l2,half,layer,none,none,js,false,Bad\n")
    with pytest.raises(DataError, match="expected a lowercase view name, found 'x; drop"):
        connect(tmp_path / "new.duckdb", read_only=False)
