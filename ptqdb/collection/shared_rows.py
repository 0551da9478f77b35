"""The rows that networks share: number formats, schemes and datasets."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import duckdb
import numpy as np
import polars as pl

from ptqdb.database import insert, next_id
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat, bias_format
from ptqdb.quantization.schemes import OTHER, Scheme

FORMATS_WITH_CODES_BITS = 8
KNOWN_FORMATS = tuple(
    dict.fromkeys([*STUDY_GRID, *(bias_format(family) for family in ("INT", "POT", "FLOAT"))])
)

_OF_STUDY = ("name", "granularity", "symmetry", "range_rule", "quantized", "calibration")


def ensure_formats(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the missing number formats of the study, and the codes of the small ones."""
    present = {row[0] for row in connection.execute("select name from number_format").fetchall()}
    missing = [(i, known) for i, known in enumerate(KNOWN_FORMATS) if known.name not in present]
    if missing:
        _write_formats(connection, missing)


def ensure_format(connection: duckdb.DuckDBPyConnection, known: NumberFormat) -> int:
    """Return the id of a number format; write it if missing."""
    found = connection.execute(
        "select number_format_id from number_format where name = ?", [known.name]
    )
    row = found.fetchone()
    if row:
        return int(row[0])
    number_format_id = max(next_id(connection, "number_format"), len(KNOWN_FORMATS))
    _write_formats(connection, [(number_format_id, known)])
    return number_format_id


def _write_formats(
    connection: duckdb.DuckDBPyConnection, numbered: Sequence[tuple[int, NumberFormat]]
) -> None:
    insert(connection, "number_format", pl.DataFrame([_format_row(i, f) for i, f in numbered]))
    small = [(i, known) for i, known in numbered if known.bits <= FORMATS_WITH_CODES_BITS]
    if small:
        codes = pl.concat([_format_codes(i, known) for i, known in small])
        insert(connection, "number_format_code", codes)


def _format_row(number_format_id: int, number_format: NumberFormat) -> dict[str, Any]:
    return {
        "number_format_id": number_format_id,
        "name": number_format.name,
        "family": number_format.family,
        "bits": number_format.bits,
        "ebits": number_format.ebits,
        "mbits": number_format.mbits,
        "max_code": number_format.max_code,
        "code_count": float(number_format.code_count),
        "in_study_grid": number_format.is_in_study_grid,
    }


def _format_codes(number_format_id: int, number_format: NumberFormat) -> pl.DataFrame:
    codes = number_format.codes()
    index = np.arange(len(codes)) - np.flatnonzero(codes == 0)
    return pl.DataFrame({"code_index": index, "code": codes}).with_columns(
        number_format_id=pl.lit(number_format_id)
    )


def ensure_scheme(connection: duckdb.DuckDBPyConnection, scheme: Scheme) -> int:
    """Return the id of a scheme; write it if missing, or of another function."""
    found = connection.execute(
        "select scheme_id, source_sha256 from scheme where name = ?", [scheme.name]
    )
    row = found.fetchone()
    if row and (scheme.granularity != OTHER or row[1] == scheme.source_sha256):
        return int(row[0])
    scheme_id = int(row[0]) if row else next_id(connection, "scheme")
    values = asdict(scheme) | {"quantized": ",".join(scheme.quantized), "scheme_id": scheme_id}
    if scheme.is_of_study:  # without columns that were added later: its export stays the same
        values = {name: values[name] for name in (*_OF_STUDY, "scheme_id")}
    # Nothing refers to what had the name of a user's own before: the plan refuses it otherwise.
    connection.execute("delete from scheme where scheme_id = ?", [scheme_id])
    insert(connection, "scheme", pl.DataFrame([values]))
    return scheme_id


def ensure_dataset(
    connection: duckdb.DuckDBPyConnection,
    *,
    name: str,
    split: str,
    class_count: int,
    image_count: int,
    content_sha256: str,
) -> int:
    """Return the id of images; write them if missing."""
    found = connection.execute(
        "select dataset_id from dataset where content_sha256 = ?", [content_sha256]
    )
    row = found.fetchone()
    if row:
        return int(row[0])
    dataset_id = next_id(connection, "dataset")
    values = {
        "dataset_id": dataset_id,
        "name": name,
        "split": split,
        "class_count": class_count,
        "image_count": image_count,
        "content_sha256": content_sha256,
    }
    insert(connection, "dataset", pl.DataFrame([values]))
    return dataset_id
