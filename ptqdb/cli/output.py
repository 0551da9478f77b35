"""Prints tables to stdout in the format that the user asked for, and messages to stderr."""

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ptqdb.errors import DataError
from ptqdb.text import markdown_cell, visible

if TYPE_CHECKING:
    import polars as pl

SIGNIFICANT_DIGITS = 4
LARGEST_PLAIN_INTEGER = 10**15


class OutputFormat(StrEnum):
    """The formats of every command that prints a table."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


def say(text: str, *, lines: bool = False) -> None:
    """Print a message to stderr; control characters in it are made visible.

    Parameters
    ----------
    lines
        Whether the message has several lines.
    """
    # A message that nobody can read any more is no reason to end what is being done.
    with suppress(OSError):
        sys.stderr.write(visible(text, keep="\n\t" if lines else "") + "\n")
        sys.stderr.flush()


def write(data: str | bytes) -> None:
    """Write to stdout; what a table is made of is written at once.

    Raises
    ------
    DataError
        Stdout is closed, or its disk is full.
    BrokenPipeError
        Nobody reads the pipe any more.
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
    """Say in one line why stdout cannot be written by the block.

    Raises
    ------
    DataError
        It cannot; what was not written is dropped.
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
            f"expected to write to stdout, found: {error.strerror or error}; send it elsewhere"
        ) from error


def _drop_stdout() -> None:
    """Let what is still to be written go nowhere, or the interpreter tries again as it ends."""
    with suppress(OSError, io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def print_frame(frame: "pl.DataFrame", output_format: OutputFormat) -> None:
    """Print a frame; JSON is a list of objects, Parquet goes to stdout as bytes."""
    if output_format is OutputFormat.PARQUET:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        write(buffer.getvalue())
    elif output_format is OutputFormat.CSV:
        write(_csv(_flat(frame)))
    else:
        print_rows(frame.columns, frame.rows(named=True), output_format)


def print_rows(
    columns: Sequence[str], rows: Sequence[dict[str, Any]], output_format: OutputFormat
) -> None:
    """Print rows given as dictionaries; nested values are allowed."""
    if output_format is OutputFormat.JSON:
        try:
            text = json.dumps(_finite(rows), indent=2, default=str)
        except RecursionError as error:
            raise DataError(
                "expected values that are nested less deeply as JSON, found deeper ones; give "
                "--format csv"
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
        lines, shown = (_markdown, markdown_cell) if is_markdown else (_table, visible)
        head, *body = [[shown(cell) for cell in row] for row in [list(columns), *cells]]
        write("\n".join(lines(head, body, numeric)) + "\n")


def _finite(value: Any) -> Any:
    """JSON knows no NaN: null stands for it."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """CSV has no nested columns: they become JSON text."""
    import polars as pl

    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(name, [json.dumps(value, default=str) for value in frame[name].to_list()])
        for name in nested
    )


def _csv(frame: "pl.DataFrame") -> str:
    """The frame as CSV: NULL is an empty cell, an empty text is ``""``.

    Of a single column NULL is ``""`` as well, as Python's own ``csv`` and pandas have it: readers
    leave out a line with nothing in it.
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


def _aligned(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _table(columns: list[str], cells: list[list[str]], numeric: list[bool]) -> list[str]:
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    rows = [columns, ["─" * width for width in widths], *cells]
    return ["  ".join(map(_aligned, row, widths, numeric)).rstrip() for row in rows]


def _markdown(columns: list[str], cells: list[list[str]], numeric: list[bool]) -> list[str]:
    rule = ["---:" if right else "---" for right in numeric]
    return ["| " + " | ".join(row) + " |" for row in [columns, rule, *cells]]
