"""Runs the checks in sql/checks: queries that return the wrong rows."""

import fnmatch
import re
from dataclasses import dataclass

import duckdb
import polars as pl

from ptqdb.database import query, read_every_block
from ptqdb.errors import UsageError
from ptqdb.resources import sql_folder

_LARGE = re.compile(
    r"\b(tensor_histogram|code_histogram|dequantized_histogram|tensor_channel"
    r"|quantized_tensor_channel|tensor_divergence)\b"
)
"""Tables with one row per bin, code or channel."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    name
        Name of the check: its file in ``sql/checks`` without ``.sql``.
    meaning
        What is wrong with the rows, in one line.
    rows
        The wrong rows; empty if there are none.
    """

    name: str
    meaning: str
    rows: pl.DataFrame

    @property
    def has_passed(self) -> bool:
        """Whether the check found nothing wrong."""
        return self.rows.is_empty()


def check(
    connection: duckdb.DuckDBPyConnection, pattern: str = "*", *, quick: bool = False
) -> list[CheckResult]:
    """Run the checks whose name matches a glob, sorted by name; read-only.

    Parameters
    ----------
    quick
        Whether to skip the comparison of all blocks with their checksums, and the checks that read
        large tables.

    Raises
    ------
    UsageError
        No name matches.
    DatabaseError
        A block of the file is damaged.
    QueryError
        A check cannot run; the database lacks ptqdb's tables or macros.
    """
    files = sorted((sql_folder() / "checks").glob("*.sql"))
    chosen = [file for file in files if fnmatch.fnmatchcase(file.stem, pattern)]
    if not chosen:
        names = ", ".join(file.stem for file in files)
        raise UsageError(f"there is no check {pattern!r}: choose from {names}")
    if quick:
        chosen = [file for file in chosen if not _LARGE.search(file.read_text(encoding="utf-8"))]
        if not chosen:
            raise UsageError(f"check {pattern!r} reads a large table: leave out --quick")
    else:
        read_every_block(connection)
    results = []
    for file in chosen:
        sql = file.read_text(encoding="utf-8")
        results.append(CheckResult(file.stem, meaning(sql), query(connection, sql)))
    return results


def meaning(sql: str) -> str:
    """Return what a check finds: its header comment up to the grain, without the full stop."""
    header, _, _ = sql.partition("-- Grain:")
    lines = (line.removeprefix("--").strip() for line in header.splitlines())
    return " ".join(lines).strip().removesuffix(".")
