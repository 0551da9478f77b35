"""Tables of points made elsewhere, read from a CSV or Parquet file."""

from pathlib import Path

import polars as pl

from ptqdb.errors import DataError, UsageError
from ptqdb.paths import named_path, without_magic

SUFFIXES = (".csv", ".tsv", ".parquet")
MISSING = ("", "NA", "N/A", "NULL", "null", "None", "NaN", "nan")


def read_table(path: Path) -> pl.DataFrame:
    """Read a table with a header.

    Raises
    ------
    UsageError
        The file's name ends otherwise.
    DataError
        It is missing, or not such a file.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"--from: expected a file ending in {', '.join(SUFFIXES)}, found {path.name!r}"
        )
    file = without_magic(named_path(path))
    try:
        if suffix == ".parquet":
            return pl.read_parquet(file, glob=False)
        separator = "\t" if suffix == ".tsv" else ","
        return pl.read_csv(
            file,
            separator=separator,
            infer_schema_length=None,
            null_values=list(MISSING),
            glob=False,
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"--from: expected a table at {path}, found: {reason}") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"--from: expected a table in {path}, found: {reason}") from error
