"""Options that several commands share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli import completion
from ptqdb.cli.output import OutputFormat
from ptqdb.defaults import DEFAULT_DATABASE, FIT_VIEW, LeaveOut

Database = Annotated[
    Path, typer.Option("--db", envvar="PTQDB_DB", help="The DuckDB file.", show_default=True)
]
# Commands that only read fall back to the embedded study: see ptqdb/cli/reading.py.
ReadDatabase = Annotated[
    Path | None,
    typer.Option(
        "--db",
        envvar="PTQDB_DB",
        help="The DuckDB file.",
        show_default=f"{DEFAULT_DATABASE}; if missing, the embedded study",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        help="Wait this long for another process to close the file.",
        min=0,
    ),
]
VIEW_HELP = (
    "A view's name; NAME@SCHEME, or NAME@* for every scheme; or a call such as "
    "\"variant(share := 'param')\"."
)
View = Annotated[
    str,
    typer.Option(
        help=VIEW_HELP,
        autocompletion=completion.views,
    ),
]
ViewOrNone = Annotated[
    str | None,
    typer.Option(
        "--view",
        help=VIEW_HELP,
        show_default=FIT_VIEW,
        autocompletion=completion.views,
    ),
]
Format = Annotated[OutputFormat, typer.Option("--format", help="Output format.")]


_LEAVE_OUT = (
    "Unit of cross-validation to leave out; networks with and without batch norm are one "
    "architecture. Above 20 units, several are left out at a time."
)
LeaveOutOption = Annotated[LeaveOut, typer.Option("--leave-out", help=_LEAVE_OUT)]
LeaveOutOrNone = Annotated[
    LeaveOut | None,
    typer.Option("--leave-out", help=_LEAVE_OUT, show_default="network"),
]
Coverage = Annotated[
    float,
    typer.Option(
        "--interval",
        help="Nominal coverage of the prediction intervals.",
        min=0.5,
        max=0.99,
    ),
]


def refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse options that would have no effect.

    Parameters
    ----------
    options
        Values by name; None or an empty list if not given.
    why
        The rest of a sentence that begins with their names.

    Raises
    ------
    UsageError
        At least one is given.
    """
    from ptqdb.errors import UsageError

    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(f"{' and '.join(given)} {why}")


def split_list(text: str) -> tuple[str, ...]:
    """Return the items of a comma-separated list.

    Examples
    --------
    >>> split_list("hill, rational2,")
    ('hill', 'rational2')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())
