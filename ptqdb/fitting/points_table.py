"""Reads tables of points from CSV, Parquet or JSON files."""

from pathlib import Path

import polars as pl

from ptqdb.errors import DataError, UsageError
from ptqdb.support.closest import closest_first
from ptqdb.support.paths import named_path, without_magic

SUFFIXES = (".csv", ".tsv", ".parquet", ".json", ".ndjson")
MISSING = ("", "NA", "N/A", "NULL", "null", "None", "NaN", "nan")


def read_table(path: Path) -> pl.DataFrame:
    """Read a table with a header; JSON is a list of objects, or one object a line.

    Raises
    ------
    UsageError
        The file name has another ending.
    DataError
        The file is missing or not of this kind.
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
        if suffix == ".json":
            return pl.read_json(path.read_bytes(), infer_schema_length=None)
        if suffix == ".ndjson":
            return pl.read_ndjson(path.read_bytes(), infer_schema_length=None)
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


def read_points(path: Path, x: str | None, y: str | None, by: str | None) -> pl.DataFrame:
    """Read a table of points; a column ``network``, or else `by`, names their networks.

    Points of one network are not independent, so they must be left out together.

    Parameters
    ----------
    x, y
        The columns of the points.
    by
        The column that groups the points, or None.

    Raises
    ------
    UsageError
        No such column (the message lists the columns); or as `read_table`.
    DataError
        As `read_table`.
    """
    frame = read_table(path)
    if x is None or y is None:
        raise UsageError(
            f"--from: expected --x and --y, two columns of {path.name}; "
            f"it has {', '.join(frame.columns)}"
        )
    for column in (x, y, by):
        if column is not None and column not in frame.columns:
            names = ", ".join(closest_first(column, frame.columns))
            raise UsageError(
                f"--from: expected a column of {path.name}, found {column!r}; choose one of {names}"
            )
    if by is None or "network" in frame.columns:
        return frame
    return frame.with_columns(network=pl.col(by).cast(pl.String))
