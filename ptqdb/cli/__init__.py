"""The command line: one module per command, each of which parses, calls and prints."""

import os
import sys

import typer

from ptqdb.cli import (
    chart,
    check,
    collect,
    compare,
    export,
    fit,
    import_,
    info,
    predict,
    report,
    sql,
    train,
    validate,
    views,
)
from ptqdb.cli.output import say
from ptqdb.errors import ContradictionError, MismatchError, PtqdbError, QueryError, UsageError
from ptqdb.interruption import interrupts_kept

app = typer.Typer(
    name="ptqdb",
    help="Predict what a trained network loses in a quantized number format, "
    "without evaluating it there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    *(collect, predict, fit, compare, validate, chart, report, views, info, sql, check),
    *(export, import_, train),
)
for module in COMMANDS:
    module.register(app)


def _show_version(value: bool) -> None:
    if value:
        from ptqdb.version import VERSION

        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 misused, 130 interrupted."""
    # NumPy is not imported yet. Its matrices are small here: threads of OpenBLAS gain nothing
    # and wait for each other, on a machine that does other work by far longer than they compute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with interrupts_kept():
            app()
    except PtqdbError as error:
        # DuckDB's own words have several lines, and show the place of a mistake.
        has_lines = isinstance(error, QueryError | ContradictionError) or "\nLINE " in str(error)
        say(f"ptqdb: {error}", lines=has_lines)
        sys.exit(2 if isinstance(error, UsageError | MismatchError) else 1)
    except KeyboardInterrupt:
        say("ptqdb: interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # the reader of the pipe has seen enough, as in `ptqdb views | head`
        sys.stderr.close()
        sys.exit(0)
