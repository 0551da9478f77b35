"""Prints tables to stdout in the format that the user asked for, and messages to stderr."""

import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ptqdb.errors import DataError, UsageError
from ptqdb.support.closest import closest_first
from ptqdb.support.text import markdown_cell, markdown_table, visible

if TYPE_CHECKING:
    import polars as pl

SIGNIFICANT_DIGITS = 4
LARGEST_PLAIN_INTEGER = 10**15
# In a table that is too wide for the terminal, cells are cut to no less than this.
NARROWEST_CELL = 16
GAP, ELISION = "  ", "…"


class OutputFormat(StrEnum):
    """The formats of every command that prints a table."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Printing:
    """The user's options for a command's output.

    Attributes
    ----------
    is_quiet
        Whether messages and progress are suppressed; errors are not.
    columns
        The columns of a table to print; empty: all.
    is_wide
        Whether tables may be wider than the terminal.
    """

    is_quiet: bool = False
    columns: tuple[str, ...] = ()
    is_wide: bool = False


_printing = Printing()


@contextmanager
def set_printing(said: Printing) -> Iterator[None]:
    """Apply a user's options while a command runs."""
    global _printing
    before, _printing = _printing, said
    try:
        yield
    finally:
        _printing = before


def is_quiet() -> bool:
    """Whether messages and progress are suppressed."""
    return _printing.is_quiet


def say(text: str, *, lines: bool = False) -> None:
    """Print a message to stderr unless quiet, with control characters escaped.

    Parameters
    ----------
    lines
        Whether the message has several lines.
    """
    if is_quiet():
        return
    # A closed stderr must not abort the command.
    with suppress(OSError):
        sys.stderr.write(visible(text, keep="\n\t" if lines else "") + "\n")
        sys.stderr.flush()


@contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Send what a network's own code prints to stderr: stdout is for the command's data."""
    with redirect_stdout(sys.stderr):
        yield


def write(data: str | bytes) -> None:
    """Write to stdout and flush.

    Raises
    ------
    DataError
        Stdout is closed, or its disk is full.
    BrokenPipeError
        The reader of the pipe has closed it.
    """
    if sys.stdout is None:
        raise DataError("expected to write to stdout, found it closed")
    with stdout_errors():
        if isinstance(data, bytes):
            sys.stdout.buffer.write(data)
        else:
            sys.stdout.write(data)
        sys.stdout.flush()


@contextmanager
def stdout_errors() -> Iterator[None]:
    """Turn the block's errors in writing to stdout into a message of one line.

    Raises
    ------
    DataError
        Stdout cannot be written; unwritten output is dropped.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        _drop_stdout()
        raise DataError(
            f"expected to write to stdout, found: {error.strerror or error}; redirect the output"
        ) from error


def _drop_stdout() -> None:
    """Discard unwritten output, or the interpreter tries to write it again at exit."""
    with suppress(OSError, io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def print_frame(frame: "pl.DataFrame", output_format: OutputFormat) -> None:
    """Print a frame; JSON is a list of objects, Parquet goes to stdout as bytes.

    Raises
    ------
    UsageError
        A requested column does not exist, or Parquet would go to a terminal.
    """
    frame = frame.select(_chosen(frame.columns))
    if output_format is OutputFormat.PARQUET:
        if _is_terminal():
            raise UsageError(
                "--format parquet: expected a file or a pipe, found a terminal; redirect it, "
                "as in > table.parquet"
            )
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        write(buffer.getvalue())
    elif output_format is OutputFormat.CSV:
        write(_csv(_flat(frame)))
    else:
        _print_rows(frame.columns, frame.rows(named=True), output_format)


def print_rows(
    columns: Sequence[str], rows: Sequence[dict[str, Any]], output_format: OutputFormat
) -> None:
    """Print rows given as dictionaries; nested values are allowed.

    Parameters
    ----------
    columns
        The columns of a table; the other formats have every key of the rows.

    Raises
    ------
    UsageError
        As `print_frame`.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row)) or list(columns)
    if _printing.columns:
        columns = _chosen(keys)
        rows = [{name: row.get(name) for name in columns} for row in rows]
    _print_rows(columns, rows, output_format)


def _chosen(columns: Sequence[str]) -> list[str]:
    """The columns that the user requested, or all."""
    for name in _printing.columns:
        if name not in columns:
            names = ", ".join(closest_first(name, columns))
            raise UsageError(f"--columns: expected any of {names}, found {name!r}")
    return list(_printing.columns or columns)


def _print_rows(
    columns: Sequence[str], rows: Sequence[dict[str, Any]], output_format: OutputFormat
) -> None:
    if output_format is OutputFormat.JSON:
        try:
            text = json.dumps(_finite(rows), indent=2, default=str)
        except RecursionError as error:
            raise DataError(
                "expected values shallow enough for JSON, found deeper nesting; use --format csv"
            ) from error
        write(text + "\n")
    elif output_format in (OutputFormat.CSV, OutputFormat.PARQUET):
        import polars as pl

        print_frame(pl.DataFrame(list(rows), infer_schema_length=None), output_format)
    else:
        cells = [[_text(row.get(column)) for column in columns] for row in rows]
        numeric = [
            any(isinstance(row.get(column), int | float | Decimal) for row in rows)
            and not any(isinstance(row.get(column), bool) for row in rows)
            for column in columns
        ]
        is_markdown = output_format is OutputFormat.MARKDOWN
        shown = markdown_cell if is_markdown else visible
        table = [[shown(cell) for cell in row] for row in [list(columns), *cells]]
        if is_markdown:
            write(markdown_table(table[0], table[1:], numeric) + "\n")
        else:
            write("\n".join(_table(*_fitting(table, numeric))) + "\n")


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by null, since JSON has neither."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Convert nested columns to JSON text, since CSV has none."""
    import polars as pl

    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(name, [json.dumps(value, default=str) for value in frame[name].to_list()])
        for name in nested
    )


def _csv(frame: "pl.DataFrame") -> str:
    """The frame as CSV: NULL is an empty cell, empty text is ``""``.

    In a single column NULL is also ``""``, as in Python's ``csv`` and pandas: readers skip empty
    lines.
    """
    return frame.write_csv(null_value='""' if frame.width == 1 else None)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value.is_integer() and abs(value) < LARGEST_PLAIN_INTEGER:
            return f"{value:.0f}"
        return f"{value:.{SIGNIFICANT_DIGITS}g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _fitting(table: list[list[str]], numeric: list[bool]) -> tuple[list[list[str]], list[bool]]:
    """Fit the table into the terminal: cut long cells first, then drop columns.

    Text is cut before columns are dropped; numbers are never cut. The first columns, which
    identify the rows, and the last one are kept.
    """
    if _printing.is_wide or not _is_terminal():
        return table, numeric
    room = shutil.get_terminal_size().columns
    widths = _widths(table)
    if _total(widths) <= room:
        return table, numeric
    least = _limited(widths, numeric, NARROWEST_CELL)
    kept = list(range(len(widths)))
    while len(kept) > 2 and _total([least[i] for i in kept]) > room:
        if len(kept) == len(widths):
            room -= len(GAP) + len(ELISION)
        kept.pop(min(len(kept) * 2 // 3, len(kept) - 2))
    limit = NARROWEST_CELL
    while limit < max(widths):
        wider = _limited(widths, numeric, limit + 1)
        if _total([wider[i] for i in kept]) > room:
            break
        limit += 1
    widths = _limited(widths, numeric, limit)
    say("the table is wider than the terminal: use --wide for all of it, --columns A,B for a part")
    cut = [
        [cell if len(cell) <= width else cell[: width - 1] + ELISION for cell, width in pairs]
        for pairs in (zip(row, widths, strict=True) for row in table)
    ]
    if len(kept) == len(widths):
        return cut, numeric
    place = next(i for i, column in enumerate(kept) if column != i)
    rows = [[row[i] for i in kept] for row in cut]
    return (
        [[*row[:place], ELISION, *row[place:]] for row in rows],
        [*(numeric[i] for i in kept[:place]), False, *(numeric[i] for i in kept[place:])],
    )


def _is_terminal() -> bool:
    """Whether stdout is a terminal; it may be closed."""
    return sys.stdout is not None and sys.stdout.isatty()


def _widths(table: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def _total(widths: list[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _limited(widths: list[int], numeric: list[bool], limit: int) -> list[int]:
    return [
        width if is_number else min(width, limit)
        for width, is_number in zip(widths, numeric, strict=True)
    ]


def _aligned(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _table(table: list[list[str]], numeric: list[bool]) -> list[str]:
    widths = _widths(table)
    rows = [table[0], ["─" * width for width in widths], *table[1:]]
    return [GAP.join(map(_aligned, row, widths, numeric)).rstrip() for row in rows]
