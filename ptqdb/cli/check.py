"""``ptqdb check``: check that a database is intact and consistent."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptqdb.cli.options import Database, Format
from ptqdb.cli.output import OutputFormat, print_rows, say
from ptqdb.defaults import DEFAULT_DATABASE

if TYPE_CHECKING:
    from ptqdb.database.checks import CheckResult

COLUMNS = ("check", "meaning", "wrong_rows", "rows")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb check --db study.duckdb --format json`")(check)


def check(
    pattern: Annotated[str, typer.Argument(help="A check's name or glob.")] = "*",
    db: Database = DEFAULT_DATABASE,
    limit: Annotated[
        int, typer.Option(min=0, help="Show at most this many wrong rows per check.")
    ] = 5,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Skip reading every block and the checks of the large tables."
        ),
    ] = False,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Check a file for damage, contradictory counts, and missing facts or cells.

    Reads every block of every table and verifies its checksum, unless --quick is given.
    Prints the checks that failed, each with its first wrong rows, and exits with 1; exits with 0
    if all passed. Cells that cannot be evaluated because the network's own code fails are listed
    on stderr: they are missing, but the file is not wrong, and collecting again would not fill
    them.
    """
    from ptqdb.cli.reading import open_as_it_is, tell_failed_cells

    with open_as_it_is(db) as study:
        results = study.check(pattern, quick=quick)
        tell_failed_cells(study.connection)
    failed = [result for result in results if not result.has_passed]
    if failed:
        print_rows(COLUMNS, [_row(result, limit, output) for result in failed], output)
    elif output is OutputFormat.JSON:
        print_rows(COLUMNS, [], output)
    found = f"{len(failed)} failed" if failed else "nothing is wrong"
    checks = "1 check" if len(results) == 1 else f"{len(results)} checks"
    quickly = "; --quick skipped the rest" if quick else ""
    say(f"{checks}: {found}{quickly}")
    if failed:
        raise typer.Exit(1)


def _row(result: "CheckResult", limit: int, output: OutputFormat) -> dict[str, Any]:
    rows = result.rows.head(limit).to_dicts()
    return {
        "check": result.name,
        "meaning": result.meaning,
        "wrong_rows": len(result.rows),
        "rows": rows if output is OutputFormat.JSON else "; ".join(map(_text, rows)),
    }


def _text(row: dict[str, Any]) -> str:
    """A row as text without its unknown values, since rows of a check differ in their columns."""
    return ", ".join(f"{column} {value}" for column, value in row.items() if value is not None)
