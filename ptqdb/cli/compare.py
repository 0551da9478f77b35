"""``ptqdb compare``: which view and curve predict networks that they did not see."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptqdb.cli.options import Format, LeaveOut, LeaveOutOption, ReadDatabase, Wait, listed
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
    views: Annotated[str, typer.Argument(help="A name or glob, or a call of variant.")] = "*",
    db: ReadDatabase = None,
    curves: Annotated[str, typer.Option(help="Comma-separated names, or all.")] = ",".join(
        COMPARED_CURVES
    ),
    leave_out: LeaveOutOption = LeaveOut.NETWORK,
    top: Annotated[
        int, typer.Option(help="Print so many of the best, and the baselines; 0: all.", min=0)
    ] = 20,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes.", min=1, show_default="one per core"),
    ] = None,
    wait: Wait = 0,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Fit views with curves and rank them by their predictions of networks they did not see.

    The baselines stand in the same table: what a bit count predicts as well needs no
    divergence. Divergences of kind evaluated look at the losses of the very networks (by
    sensitivity, or by the breakpoint): these were not wholly left out. Each result is kept
    in the tables fit and fit_fold as soon as it is found; what is unchanged is not fitted again.
    Interrupted? Run the same command again; it resumes.
    """
    from ptqdb.cli.progress import ComparisonProgress
    from ptqdb.curves import CURVES

    names = list(CURVES) if curves == "all" else listed(curves)
    resumes(context)
    with chosen_study(db) as study, ComparisonProgress() as progress:
        board = study.compare(
            views,
            names,
            leave_out=leave_out.value,
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
        say(f"{len(board.entries)} in all: --top 0 prints them")
    say(_statement(board.choice, leave_out.value))


def _row(place: int, entry: "Entry", board: "Leaderboard") -> dict[str, Any]:
    from ptqdb.fitting.leaderboard import FIGURES

    figures = {name: getattr(entry, name) for name in FIGURES if name != "fingerprint"}
    figures["params"] = list(entry.params)
    kind = "baseline" if entry.is_baseline else "divergence"
    if entry.view in board.evaluated_views:
        kind = "evaluated"
    return {"place": place, "kind": kind} | figures


def _statement(choice: "Choice | None", leave_out: str) -> str:
    """What the best of many is worth when it is not picked for the figure it is judged by."""
    if choice is None:
        return (
            f"the best of many flatters: with fewer than three {leave_out}s the choice cannot be "
            "made inside each fold"
        )
    return (
        f"held-out R² {choice.held_out_r_squared:.4f}, RMSE {choice.held_out_rmse:.4f} with the "
        f"view and curve chosen anew without each {leave_out}: "
        + "; ".join(f"{unit}: {view}, {curve}" for unit, (view, curve) in choice.chosen.items())
    )
