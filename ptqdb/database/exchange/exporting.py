"""Writes a study as a folder of Parquet files."""

from contextlib import ExitStack, suppress
from pathlib import Path

import duckdb

from ptqdb.database.exchange.staging import literal_path
from ptqdb.database.exchange.statements import Statements, little_memory
from ptqdb.database.exchange.tables import TABLE_NAMES
from ptqdb.errors import DatabaseError, DataError, UsageError
from ptqdb.support.paths import is_there, make_folder, named_reason, write_beside

COMPRESSION_LEVEL = 9
ROW_GROUP_SIZE = 262_144


def export_study(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write the facts as one Parquet file per base table, ``TABLE.parquet``.

    Columns, types and ids are those of the table. Rows are sorted by all columns and compressed
    with zstd, so equal facts give equal bytes. Derived tables are not exported. Existing files are
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
    try:
        with ExitStack() as files, little_memory(connection):
            for table in TABLE_NAMES:
                partial = files.enter_context(write_beside(folder / f"{table}.parquet"))
                statements.run(
                    f"copy (select * from {table} order by all) to {literal_path(partial)} "
                    f"(format parquet, compression zstd, compression_level {COMPRESSION_LEVEL}, "
                    f"row_group_size {ROW_GROUP_SIZE})"
                )
    except BaseException as error:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, DatabaseError):
            reason = named_reason(str(error)) or error
            raise DataError(f"{folder} cannot be written: {reason}; make room there") from error
        raise
