"""Writes a study as a folder of Parquet files."""

from contextlib import ExitStack, suppress
from pathlib import Path

import duckdb

from ptqdb.database.exchange.staging import literal_path
from ptqdb.database.exchange.statements import Statements, little_memory
from ptqdb.database.exchange.tables import TABLES, Table
from ptqdb.errors import DatabaseError, DataError, UsageError
from ptqdb.support.paths import is_there, make_folder, named_reason, write_beside

COMPRESSION_LEVEL = 9
ROW_GROUP_SIZE = 262_144


def export_study(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write the facts as one Parquet file per base table, ``TABLE.parquet``.

    Columns, types and ids are those of the table. Rows are sorted by all columns and compressed
    with zstd, so equal facts give equal bytes. Tables and columns that only schemes other than the
    study's fill are omitted if they are empty. Derived tables are not exported. Existing files are
    replaced once all are written.

    Raises
    ------
    UsageError
        The folder is a file.
    DataError
        The folder cannot be written.
    """
    is_new = not is_there(folder)
    if not is_new and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder to export to")
    make_folder(folder)
    statements = Statements(connection)
    written = [table for table in TABLES if not _is_omitted(statements, table)]
    try:
        with ExitStack() as files, little_memory(connection):
            for table in written:
                partial = files.enter_context(write_beside(_path(folder, table)))
                empty = ", ".join(_empty_columns(statements, table))
                chosen = f"* exclude ({empty})" if empty else "*"
                statements.run(
                    f"copy (select {chosen} from {table.name} order by all) "
                    f"to {literal_path(partial)} "
                    f"(format parquet, compression zstd, compression_level {COMPRESSION_LEVEL}, "
                    f"row_group_size {ROW_GROUP_SIZE})"
                )
        for table in TABLES:
            if table not in written:
                _delete(_path(folder, table))
    except BaseException as error:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, DatabaseError):
            reason = named_reason(str(error)) or error
            raise DataError(f"{folder} cannot be written: {reason}; make room there") from error
        raise


def _path(folder: Path, table: Table) -> Path:
    return folder / f"{table.name}.parquet"


def _delete(path: Path) -> None:
    """Delete a file that an export of another study left there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path} cannot be deleted: {error.strerror}; it belongs to another study, so export "
            "to another folder"
        ) from error


def _is_omitted(statements: Statements, table: Table) -> bool:
    if not (table.omits_empty and table.is_optional):
        return False
    return not statements.rows(f"select 1 from {table.name} limit 1")


def _empty_columns(statements: Statements, table: Table) -> list[str]:
    """The optional columns to omit: those without any value."""
    if not (table.omits_empty and table.optional_columns):
        return []
    counts = ", ".join(f"count({column})" for column in table.optional_columns)
    (row,) = statements.rows(f"select {counts} from {table.name}")
    return [name for name, count in zip(table.optional_columns, row, strict=True) if not count]
