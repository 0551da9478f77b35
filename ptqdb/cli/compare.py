"""``ptqdb compare``: which view and curve predict unseen networks best."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptqdb.cli.options import Format, LeaveOutOption, ReadDatabase, Wait, split_list
from ptqdb.cli.output import OutputFormat, print_rows, say
from ptqdb.cli.reading import chosen_study
from ptqdb.cli.resuming import resumes
from ptqdb.defaults import COMPARED_CURVES

if TYPE_CHECKING:
    from ptqdb.fitting.compare import Leaderboard
    from ptqdb.fitting.leaderboard import Choice, Entry

TABLE_COLUMNS = (
    *("view", "curve", "kind", "held_out_r_squared", "held_out_rmse"),
    *("held_out_median_error", "r_squared", "ceiling_r_squared", "points"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb compare`; `ptqdb compare '*_depth' --curves hill,rational2`; "
        "`ptqdb compare --leave-out architecture --top 0 --format csv`"
    )(compare)


def compare(
    context: typer.Context,
    views: Annotated[
        str,
        typer.Argument(
            help="A name or glob, with @SCHEME or @* for other schemes; or a call of variant."
        ),
    ] = "*",
    db: ReadDatabase = None,
    curves: Annotated[str, typer.Option(help="Comma-separated names, or all.")] = ",".join(
        COMPARED_CURVES
    ),
    leave_out: LeaveOutOption = "network",
    top: Annotated[
        int, typer.Option(help="Print the best N and the baselines; 0: all.", min=0)
    ] = 20,
    jobs: Annotated[
        int | None,
        typer.Option(help="Number of processes.", min=1, show_default="one per core"),
    ] = None,
    wait: Wait = 0,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Fit views with curves and rank them by their predictions of unseen networks.

    The table includes baselines, such as the bit count: a useful divergence must beat them.
    Divergences of kind "evaluated" depend on the losses of the predicted network (by sensitivity
    or breakpoint), so it was not fully left out. Each result is stored at once in the tables fit
    and fit_fold; unchanged fits are not repeated. Interrupted? Run the same command again; it
    resumes.
    """
    from ptqdb.cli.progress import ComparisonProgress
    from ptqdb.curves import CURVES

    names = list(CURVES) if curves == "all" else split_list(curves)
    resumes(context)
    with chosen_study(db) as study, ComparisonProgress() as progress:
        board = study.compare(
            views,
            names,
            leave_out=leave_out,
            job_count=jobs or len(os.sched_getaffinity(0)),
            reporter=progress,
            wait_s=wait,
            remarked=say,
        )
    for remark in board.remarks:
        say(remark)
    shown = [
        (place, entry)
        for place, entry in enumerate(board.entries, start=1)
        if not top or place <= top or entry.is_baseline
    ]
    rows = [_row(place, entry, board) for place, entry in shown]
    is_wide = output not in (OutputFormat.TABLE, OutputFormat.MARKDOWN)
    columns = list(rows[0]) if is_wide else ["place", *TABLE_COLUMNS]
    print_rows(columns, [{name: row[name] for name in columns} for row in rows], output)
    if len(shown) < len(board.entries):
        say(f"{len(board.entries)} in total: --top 0 prints them all")
    say(_statement(board.choice, leave_out))


def _row(place: int, entry: "Entry", board: "Leaderboard") -> dict[str, Any]:
    from ptqdb.database import uses_probe
    from ptqdb.fitting.leaderboard import FIGURES

    figures = {name: getattr(entry, name) for name in FIGURES if name != "fingerprint"}
    figures["params"] = list(entry.params)
    kind = "baseline" if entry.is_baseline else "divergence"
    if entry.view in board.evaluated_views:
        kind = "evaluated"
    elif uses_probe(entry.view):
        kind = "probe"
    return {"place": place, "kind": kind} | figures


def _statement(choice: "Choice | None", leave_out: str) -> str:
    """The held-out R² when view and curve are chosen inside each fold (nested cross-validation)."""
    if choice is None:
        return (
            "the best held-out R² of many is optimistic: with fewer than three "
            f"{leave_out}s the choice cannot be made inside each fold"
        )
    return (
        f"held-out R² {choice.held_out_r_squared:.4f}, RMSE {choice.held_out_rmse:.4f} with the "
        f"view and curve chosen again without each {leave_out}: "
        + "; ".join(f"{unit}: {view}, {curve}" for unit, (view, curve) in choice.chosen.items())
    )
