"""``ptqdb fit``: fit a curve of accuracy loss over divergence."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptqdb.cli import completion
from ptqdb.cli.options import Format, LeaveOutOrNone, ReadDatabase, ViewOrNone, refuse
from ptqdb.cli.output import OutputFormat, print_rows, say, write
from ptqdb.cli.reading import open_reader
from ptqdb.defaults import FIT_CURVE, FIT_VIEW
from ptqdb.support.text import visible

if TYPE_CHECKING:
    from ptqdb.fitting.store import BestPrediction
    from ptqdb.fitting.view_fit import GroupFit

# The columns that fit a terminal; the other formats have all.
TABLE_COLUMNS = (
    *("curve", "group", "points", "r_squared", "ceiling_r_squared", "held_out_r_squared"),
    *("held_out_rmse", "held_out_median_error", "rmse", "monotone"),
)
LEAST_BETTER = 0.005
TABLE, FITTED = "Points from a file", "What is fitted"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb fit --view fakefreeze_flops_depth --curve all`; "
        "`ptqdb fit --by family --where 'bits <= 8' --format json`; "
        "`ptqdb fit --from points.csv --x js --y loss --by network`"
    )(fit)


def fit(
    view: ViewOrNone = None,
    db: ReadDatabase = None,
    curve: Annotated[
        str,
        typer.Option(
            help="A curve's name, or all.",
            rich_help_panel=FITTED,
            autocompletion=completion.curves,
        ),
    ] = FIT_CURVE,
    by: Annotated[
        str | None,
        typer.Option(
            help="Also fit each value of this column, such as network, architecture, family, bits.",
            show_default="network",
            rich_help_panel=FITTED,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="A SQL condition on the view's columns.", rich_help_panel=FITTED),
    ] = None,
    leave_out: LeaveOutOrNone = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Fit the points of a .csv, .parquet or .json file, not of a database.",
            rich_help_panel=TABLE,
        ),
    ] = None,
    x: Annotated[str | None, typer.Option(help="Column for x.", rich_help_panel=TABLE)] = None,
    y: Annotated[str | None, typer.Option(help="Column for y.", rich_help_panel=TABLE)] = None,
    save_fit: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Save the curves; `ptqdb.load_fits` reads them."),
    ] = None,
    show_summary: Annotated[
        bool,
        typer.Option(
            "--show-summary",
            help="Print the statsmodels summary of each fit; standard errors over several networks "
            "are from a bootstrap over networks.",
        ),
    ] = False,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Fit a curve to all networks together and to each one.

    Fits accuracy loss (a fraction of the float accuracy) over divergence. Trust the
    held_out figures: they are from curves fitted without the predicted network.
    """
    from ptqdb.curves import CURVES
    from ptqdb.curves import curve as curve_by_name

    names = list(CURVES) if curve == "all" else [curve_by_name(curve).name]
    best = None
    if table is None:
        refuse({"--x": x, "--y": y}, "can only be used with --from FILE")
        view, left_out = view or FIT_VIEW, leave_out or "network"
        with open_reader(db) as study:
            for remark in study.remarks(view, where):
                say(remark)
            fits = study.fit(view, curve=names, by=by or "network", where=where, leave_out=left_out)
            if output is OutputFormat.TABLE and not show_summary:
                best = study.best_prediction(left_out)
    else:
        given = {
            "--view": view,
            "--where": where,
            "--leave-out": leave_out,
        }
        refuse(given, "cannot be used with --from FILE")
        fits = _fits_of_table(table, names, x, y, by)
    _print(fits, show_summary, output)
    if best is not None:
        _tell_best(best, fits)
    if save_fit is not None:
        from ptqdb.fitting.saved import save_fits

        save_fits(fits, save_fit)
        say(f"wrote {save_fit}")
    if all(fit.error for fit in fits):
        raise typer.Exit(1)


def _tell_best(best: "BestPrediction", fits: "list[GroupFit]") -> None:
    """Report the view that predicts unseen networks better, if there is one."""
    shown = [fit.held_out_r_squared for fit in fits if fit.group == "ALL"]
    if any(one is not None and one >= best.held_out_r_squared - LEAST_BETTER for one in shown):
        return
    say(
        f"{best.view} predicts unseen networks better: held-out R² "
        f"{best.held_out_r_squared:.4g} ({best.curve}); `ptqdb fit --view {best.view}"
        + (f" --curve {best.curve}`" if best.curve != FIT_CURVE else "`")
    )


def _fits_of_table(
    path: Path, names: list[str], x: str | None, y: str | None, by: str | None
) -> "list[GroupFit]":
    from ptqdb.fitting.points_table import read_points
    from ptqdb.fitting.view_fit import fit_view_frame

    frame = read_points(path, x, y, by)
    assert x is not None
    assert y is not None
    return [
        fit
        for name in names
        for fit in fit_view_frame(
            frame, view=path.name, curve=name, by=by, x=x, y=y, leave_out_by=by
        )
    ]


def _print(fits: "list[GroupFit]", show_summary: bool, output: OutputFormat) -> None:
    for fit in fits:
        if fit.note:
            say(f"{fit.curve}, {fit.group}: {fit.note}")
    if show_summary:
        for fit in fits:
            if fit.results is not None:
                summary = str(fit.results.summary(title=visible(f"{fit.view}: {fit.group}")))
                write(visible(summary, keep="\n") + "\n\n")
        return
    rows = [fit.as_dict() for fit in fits]
    if output in (OutputFormat.TABLE, OutputFormat.MARKDOWN):
        columns = list(TABLE_COLUMNS)
    else:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    print_rows(columns, rows, output)
