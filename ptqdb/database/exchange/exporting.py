"""Writes a study as a folder of Parquet."""

from contextlib import suppress
from pathlib import Path

import duckdb

from ptqdb.database.exchange.staging import literal_path
from ptqdb.database.exchange.statements import Statements, little_memory
from ptqdb.database.exchange.tables import TABLE_NAMES
from ptqdb.errors import DataError, PtqdbError, UsageError

COMPRESSION_LEVEL = 9
ROW_GROUP_SIZE = 262_144


def export_study(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write the facts as one Parquet file per base table, ``TABLE.parquet``.

    Columns, types and ids are the table's, rows are sorted by all columns from the first on
    and compressed with zstd, so that the same facts are the same bytes. What is derived from
    the facts is left out. Files of these names are replaced once all are written.

    Raises
    ------
    UsageError
        The folder is a file.
    DataError
        The folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder to export to")
    statements = Statements(connection)
    partial = {table: folder / f"{table}.partial" for table in TABLE_NAMES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with little_memory(connection):
            for table, path in partial.items():
                statements.run(
                    f"copy (select * from {table} order by all) to {literal_path(path)} "
                    f"(format parquet, compression zstd, compression_level {COMPRESSION_LEVEL}, "
                    f"row_group_size {ROW_GROUP_SIZE})"
                )
        for table, path in partial.items():
            path.replace(folder / f"{table}.parquet")
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
    except PtqdbError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error
    finally:
        for path in partial.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)
