"""``ptqdb report``: a whole study as one page."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import ReadDatabase, listed
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
            help="A name, glob or call of variant to choose in the page, beside the study's own; "
            "may be given several times.",
        ),
    ] = None,
    curves: Annotated[
        str | None,
        typer.Option(
            "--curve",
            help="Curves to choose in the page, by commas.",
            show_default="rational2,hill,logistic,isotonic",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes.", min=1, show_default="one per core")
    ] = None,
) -> None:
    """Write one page of the whole study: it needs no other file, no server and no network.

    Predictions and how true they were, the leaderboard (as ptqdb compare stored it, else of a few
    views), what was collected and what failed, every picture of the study with views, curves and
    networks to choose, and how to ask more in SQL. Less than a minute for five networks.
    """
    from ptqdb.charts.saving import check_path
    from ptqdb.cli.progress import ComparisonProgress
    from ptqdb.defaults import COMPARED_CURVES

    check_path(output, (".html",))
    with open_reader(db) as study, ComparisonProgress() as progress:
        study.report(
            output,
            views=views or (),
            curves=COMPARED_CURVES if curves is None else listed(curves),
            job_count=jobs or len(os.sched_getaffinity(0)),
            reporter=progress,
        )
    say(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
