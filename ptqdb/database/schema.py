"""The tables and columns of a ptqdb database, and whether a file has them all."""

from functools import lru_cache
from pathlib import Path

import duckdb

from ptqdb.database.variants import read_csv
from ptqdb.errors import DatabaseError
from ptqdb.resources import sql_folder

Columns = dict[tuple[str, str], str]
"""Types by table and column."""

_COLUMNS = (
    "select t.table_name, c.column_name, c.data_type from duckdb_tables() as t "
    "join duckdb_columns() as c using (table_oid, database_oid) "
    "where t.database_name = current_database() and t.schema_name = 'main'"
)
_TABLES = (
    "select table_name from duckdb_tables() "
    "where database_name = current_database() and schema_name = 'main'"
)
# All objects that a file can contain; an empty one may become a database of ptqdb.
_OBJECTS = """
    select 'table', table_name from duckdb_tables() where {own}
    union all select 'view', view_name from duckdb_views() where {own} and not internal
    union all select 'macro', function_name from duckdb_functions() where {own} and not internal
    union all select 'sequence', sequence_name from duckdb_sequences() where {own}
    union all select 'type', type_name from duckdb_types() where {own} and not internal
    union all select 'schema', schema_name from duckdb_schemas() where {own} and not internal
        and schema_name != 'main'
""".format(own="database_name = current_database()")


def migrations() -> dict[int, Path]:
    """Return the migration files by number, in order."""
    return {
        int(file.name[:4]): file for file in sorted((sql_folder() / "migrations").glob("*.sql"))
    }


def known_version() -> int:
    """Return the number of the last migration."""
    return max(migrations())


def applied_version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Return the number of the last applied migration; 0 if the file is empty.

    Raises
    ------
    DatabaseError
        The file has contents of another program, or is from a newer ptqdb.
    """
    tables = connection.execute(_TABLES).fetchall()
    if ("migration",) not in tables:
        objects = connection.execute(_OBJECTS).fetchall()
        if not objects:
            return 0
        kind, name = min(objects)
        raise DatabaseError(
            f"{path} is a DuckDB file without ptqdb's tables, found the {kind} {name}: name a "
            "database of ptqdb"
        )
    try:
        rows = connection.execute("select version from migration order by version").fetchall()
    except duckdb.BinderException:
        rows = []
    versions = [version for (version,) in rows]
    if not versions or not all(isinstance(version, int) for version in versions):
        raise _unknown_record(path)
    if versions[-1] > known_version():
        raise DatabaseError(
            f"{path} has schema version {versions[-1]}, but this ptqdb knows {known_version()}: "
            "upgrade ptqdb"
        )
    if versions != list(range(1, len(versions) + 1)):
        raise _unknown_record(path)
    return len(versions)


def _unknown_record(path: Path) -> DatabaseError:
    return DatabaseError(
        f"{path} has a table migration without the record of ptqdb's tables: restore a copy, or "
        "name another file"
    )


def require_whole_schema(connection: duckdb.DuckDBPyConnection, path: Path, version: int) -> None:
    """Raise if a table or column of the file's version is missing.

    Raises
    ------
    DatabaseError
        A table or column is missing; the message names the first.
    """
    expected = _current_columns() if version == known_version() else read_columns(version)
    found = {row[:2]: row[2] for row in connection.execute(_COLUMNS).fetchall()}
    tables = {table for table, _ in found}
    for (table, column), kind in expected.items():
        if table not in tables:
            lacking = f"lacks the table {table}"
        elif (table, column) not in found:
            lacking = f"lacks the column {column} of {table}"
        elif found[table, column] != kind:
            lacking = f"has {table}.{column} as {found[table, column]}, not {kind}"
        else:
            continue
        raise DatabaseError(f"{path} {lacking}: restore a copy, or collect again into another file")


@lru_cache(maxsize=1)
def _current_columns() -> Columns:
    return {(row["table"], row["column"]): row["type"] for row in read_csv("tables.csv")}


def read_columns(version: int) -> Columns:
    """Return all columns after the migrations up to a version, from an in-memory database."""
    with duckdb.connect() as connection:
        for number, file in migrations().items():
            if number <= version:
                connection.execute(file.read_text(encoding="utf-8"))
        return {row[:2]: row[2] for row in connection.execute(_COLUMNS).fetchall()}
