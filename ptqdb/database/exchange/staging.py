"""Opens the Parquet files of an exported study as views, and rejects invalid exports."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from ptqdb.database.exchange.statements import Statements, words
from ptqdb.database.exchange.tables import TABLES, Reference, Table
from ptqdb.database.file_errors import first_line
from ptqdb.database.variants import literal
from ptqdb.errors import DataError, UsageError
from ptqdb.support.paths import is_there, without_magic
from ptqdb.support.text import is_harmless

_IN_PARQUET = {"BIT": "VARCHAR"}
"""Types that Parquet lacks, and how they are stored: bits as a text of 0 and 1."""
_OPTIONS = "hive_partitioning = false, union_by_name = false, binary_as_string = false"


def require_export(folder: Path) -> None:
    """Raise if a folder lacks a file of an export; no file is opened.

    Raises
    ------
    DataError
        No such folder, or a file is missing; the message names it.
    """
    if not (is_there(folder) and folder.is_dir()):
        raise DataError(f"{folder} is not a folder: name one that `ptqdb export` wrote")
    paths = [_path(folder, table) for table in TABLES if not table.is_optional]
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        raise DataError(
            f"expected an exported study in {folder}, found none of its files, such as "
            f"{missing[0].name}: name a folder that `ptqdb export` wrote"
        )
    if missing:
        raise DataError(f"{missing[0]} is missing: export the study again")


@contextmanager
def stage(statements: Statements, folder: Path, prefix: str = "") -> Iterator[None]:
    """Create a temporary view ``staged_TABLE`` of each file, with the columns of the table.

    Files are not read into memory: each statement on a view reads what it needs.

    Parameters
    ----------
    prefix
        Prefix for the names of the networks.

    Raises
    ------
    DataError
        A file is missing, is not Parquet, lacks a column, has an unknown column, another type, a
        duplicate key or a control character in a name, or refers to a missing row; the message
        names file and column.
    UsageError
        The prefix has a control character.
    """
    if not is_harmless(prefix):
        raise UsageError(f"expected a prefix without control characters, found {prefix!r}")
    require_export(folder)
    columns = _columns_of_tables(statements)
    try:
        for table in TABLES:
            path = _path(folder, table)
            _stage(statements, table, columns[table.name], path, prefix)
            _refuse_control_characters(statements, table, columns[table.name], path)
            _require_unique(statements, table, path)
        for table in TABLES:
            for reference in table.required:
                _require_present(statements, table, reference, _path(folder, table))
        yield
    finally:
        for table in TABLES:
            statements.drop("view" if table.is_large else "table", f"staged_{table.name}")


def _path(folder: Path, table: Table) -> Path:
    return folder / f"{table.name}.parquet"


def _columns_of_tables(statements: Statements) -> dict[str, dict[str, str]]:
    """The column types of each base table, in order."""
    rows = statements.rows(
        "select table_name, column_name, data_type from duckdb_columns() "
        "where database_name = current_database() and schema_name = 'main' "
        "order by table_name, column_index"
    )
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        columns.setdefault(table, {})[column] = kind
    return columns


def _stage(
    statements: Statements, table: Table, expected: dict[str, str], path: Path, prefix: str
) -> None:
    kind_of_stage = "view" if table.is_large else "table"
    creation = f"create or replace temp {kind_of_stage} staged_{table.name} as select"
    if table.is_optional and not path.exists():
        statements.run(f"{creation} * from {table.name} limit 0")
        return
    # DuckDB treats a file name as a glob.
    source = f"read_parquet({literal_path(Path(glob.escape(str(path))))}, {_OPTIONS})"
    try:
        described = statements.connection.execute(f"describe from {source}").fetchall()
    except duckdb.Error as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}") from error
    found = {name: kind for name, kind, *_ in described}
    cells = {column: column for column in expected}
    for column, kind in expected.items():
        if column not in found and column in table.optional_columns:
            cells[column] = "null"
            continue
        if column not in found:
            raise DataError(f"{path}: expected the column {column} ({kind}), found none")
        stored = _IN_PARQUET.get(kind, kind)
        if found[column] != stored:
            raise DataError(
                f"{path}: expected the column {column} as {stored}, found {found[column]}"
            )
    unknown = [column for column in found if column not in expected]
    if unknown:
        raise DataError(
            f"{path}: found the column {unknown[0]}, expected only {', '.join(expected)}"
        )
    if prefix:
        cells |= _renamed(table, prefix)
    chosen = ", ".join(
        f"({cells[column]})::{kind} as {column}" for column, kind in expected.items()
    )
    statements.run(f"{creation} {chosen} from {source}", path)


def literal_path(path: Path) -> str:
    """Return the path as a SQL literal, without a prefix that names a service.

    Raises
    ------
    DataError
        The path cannot be encoded in SQL.
    """
    text = str(without_magic(path))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"expected a folder with a UTF-8 name, found {str(path)!r}: rename it"
        ) from error
    return literal(text)


def _renamed(table: Table, prefix: str) -> dict[str, str]:
    """The columns with names of networks, with the prefix added."""
    if table.name == "network":
        return {"name": f"{literal(prefix)} || name"}
    if table.name != "collection_run":
        return {}
    before = f"{literal(prefix)} || "
    return {
        "cells": f"[struct_update(cell, network := {before}cell.network) for cell in cells]",
        "failures": f"[struct_update(one, network := {before}one.network) for one in failures]",
    }


def _refuse_control_characters(
    statements: Statements, table: Table, columns: dict[str, str], path: Path
) -> None:
    names = [
        column
        for column, kind in columns.items()
        if "VARCHAR" in kind and column not in table.free_texts
    ]
    if not names:
        return
    distinct = ", ".join(f"list(distinct {name})" for name in names)
    (values,) = statements.rows(f"select {distinct} from staged_{table.name}", path)
    for name, value in zip(names, values, strict=True):
        harmful = sorted(text for text in _texts(value) if not is_harmless(text))
        if harmful:
            raise DataError(
                f"{path}: expected the column {name} without control characters, found "
                f"{harmful[0]!r}; export the study again from one without"
            )


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, including those in lists and structs."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _require_unique(statements: Statements, table: Table, path: Path) -> None:
    """Raise if two rows have the same key; a strictly ascending key has no duplicates.

    Exports are sorted, which takes one pass and no memory to verify.
    """
    names = sorted({column for key in table.unique for column in key})
    before = ", ".join(f"lag({column}) over () as {column}_before" for column in names)
    unsorted = ", ".join(
        f"count(*) filter (where ({_is_larger(key)}) is distinct from true)" for key in table.unique
    )
    (counts,) = statements.rows(
        f"select {unsorted} from (select {', '.join(names)}, {before} from staged_{table.name})",
        path,
    )
    for key, count in zip(table.unique, counts, strict=True):
        if count <= 1:  # the first row, which has no predecessor
            continue
        columns = ", ".join(key)
        twice = statements.rows(
            f"select {columns} from staged_{table.name} group by all having count(*) > 1 "
            "order by all limit 1",
            path,
        )
        if twice:
            raise DataError(f"{path}: expected each {columns} once, found {words(twice[0])} twice")


def _is_larger(key: tuple[str, ...]) -> str:
    column, *others = key
    first = f"{column} > {column}_before"
    if not others:
        return first
    return f"{first} or ({column} = {column}_before and ({_is_larger(tuple(others))}))"


def _require_present(
    statements: Statements, table: Table, reference: Reference, path: Path
) -> None:
    """Raise if a row refers to a row that the folder does not contain."""
    columns = ", ".join(f"s.{column}" for column in reference.columns)
    pairs = list(zip(reference.columns, reference.targets, strict=True))
    tables = (
        [reference.table]
        if reference.other_table is None
        else [reference.table, reference.other_table]
    )
    joins = " ".join(
        f"anti join staged_{name} as t{place} on "
        + " and ".join(f"s.{column} = t{place}.{target}" for column, target in pairs)
        for place, name in enumerate(tables)
    )
    given = f"where s.{reference.columns[0]} is not null" if reference.is_optional else ""
    absent = statements.rows(
        f"select distinct {columns} from staged_{table.name} as s "
        f"{joins} {given} order by all limit 1",
        path,
    )
    if absent:
        raise DataError(
            f"{path}: {', '.join(reference.columns)} {words(absent[0])} is not in "
            + " or ".join(f"{name}.parquet" for name in tables)
        )
