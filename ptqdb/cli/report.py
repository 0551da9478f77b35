"""``ptqdb report``: write a whole study as one page."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import ReadDatabase, split_list
from ptqdb.cli.output import say
from ptqdb.cli.reading import open_reader


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb report`; `ptqdb report --db mine.duckdb -o mine.html`; "
        "`ptqdb report --view 'nsr_*_depth' --curve rational2,hill`"
    )(report)


def report(
    db: ReadDatabase = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="An .html file.")] = Path(
        "report.html"
    ),
    views: Annotated[
        list[str] | None,
        typer.Option(
            "--view",
            help="A further view to offer in the page: a name, glob or call of variant; repeat "
            "for several.",
        ),
    ] = None,
    curves: Annotated[
        str | None,
        typer.Option(
            "--curve",
            help="Curves to offer in the page, comma-separated.",
            show_default="rational2,hill,logistic,isotonic",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Number of processes.", min=1, show_default="one per core")
    ] = None,
) -> None:
    """Write the whole study as one self-contained page, which needs no server and no internet.

    It shows predictions and their errors, the leaderboard (from ptqdb compare, or else of a few
    views), the collected and the failed cells, every chart with a choice of views, curves and
    networks, and example queries in SQL. Takes less than a minute for five networks.
    """
    from ptqdb.charts.saving import check_path
    from ptqdb.cli.progress import ComparisonProgress
    from ptqdb.defaults import COMPARED_CURVES

    check_path(output, (".html",))
    with open_reader(db) as study, ComparisonProgress() as progress:
        study.report(
            output,
            views=views or (),
            curves=COMPARED_CURVES if curves is None else split_list(curves),
            job_count=jobs or len(os.sched_getaffinity(0)),
            reporter=progress,
        )
    say(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
