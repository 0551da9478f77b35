"""``ptqdb check``: whether what a database holds fits together."""

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
        int, typer.Option(min=0, help="Show so many wrong rows of each check at most.")
    ] = 5,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Neither read every block nor run the checks of the large tables."
        ),
    ] = False,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Check a file: damage, counts that contradict each other, facts and cells that are missing.

    Every block of every table is read and compared with its checksum, unless --quick is given.
    Prints the checks that found something, each with the first of its wrong rows, and exits
    with 1; without a finding it exits with 0. Cells that cannot be evaluated, since the
    network's own code fails in them, are listed on stderr: they are missing, but nothing is
    wrong with the file, and collecting again would not fill them.
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
    found = f"{len(failed)} found something wrong" if failed else "nothing is wrong"
    checks = "1 check" if len(results) == 1 else f"{len(results)} checks"
    quickly = "; what --quick leaves out was not looked at" if quick else ""
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
    """Tables and CSV hold no rows of differing columns: as words, without what is unknown."""
    return ", ".join(f"{column} {value}" for column, value in row.items() if value is not None)
