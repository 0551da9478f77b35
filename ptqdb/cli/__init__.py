"""The command line: one module per command, which parses, calls the library and prints."""

import atexit
import os
import signal
import sys
from contextlib import suppress

import typer

from ptqdb.cli import (
    chart,
    check,
    collect,
    compare,
    export,
    fit,
    formats,
    import_,
    info,
    predict,
    report,
    sql,
    train,
    validate,
    views,
)
from ptqdb.cli.common import App
from ptqdb.cli.output import say, stdout_errors, write
from ptqdb.cli.resuming import Resumption
from ptqdb.errors import (
    ContradictionError,
    MismatchError,
    PtqdbError,
    QueryError,
    UsageError,
    in_options,
    reword,
)
from ptqdb.support.interruption import Interruption, end_on_signals, keep_interrupts

app = App(
    name="ptqdb",
    help="Predict how much accuracy a trained network loses when quantized, "
    "without evaluating the quantized network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    *(collect, predict, fit, compare, validate, chart, report, formats, views, info),
    *(sql, check, export, import_, train),
)
for module in COMMANDS:
    module.register(app)


def _show_version(value: bool) -> None:
    if value:
        from ptqdb.version import VERSION

        write(f"{VERSION}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 misused, 130, 143 or 129 interrupted."""
    # Must come before NumPy is imported. The matrices are small: OpenBLAS threads gain nothing,
    # and on a busy machine they wait for each other far longer than they compute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    resumption = Resumption()
    try:
        with end_on_signals(), keep_interrupts(), reword(in_options), stdout_errors():
            app(obj=resumption)
    except PtqdbError as error:
        # DuckDB's messages have several lines and point at the mistake.
        has_lines = isinstance(error, QueryError | ContradictionError) or "\nLINE " in str(error)
        say(f"ptqdb: {error}", lines=has_lines)
        sys.exit(2 if isinstance(error, UsageError | MismatchError) else 1)
    except KeyboardInterrupt as error:
        # A second Ctrl-C while Python exits would print a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with suppress(OSError):  # the terminal may be gone
            say(f"Interrupted. {resumption.hint}".strip())
        sys.exit(128 + (error.number if isinstance(error, Interruption) else signal.SIGINT))
    except BrokenPipeError:
        # the reader closed the pipe, as in `ptqdb views | head`
        sys.stderr.close()
        sys.exit(0)
