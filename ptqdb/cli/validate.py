"""``ptqdb validate``: validate predictions and their intervals."""

from typing import Annotated

import typer

from ptqdb.cli import completion
from ptqdb.cli.options import Coverage, Format, LeaveOutOption, ReadDatabase, View
from ptqdb.cli.output import OutputFormat, print_rows, say
from ptqdb.cli.reading import open_reader
from ptqdb.defaults import COVERAGE, PREDICTION_CURVE, PREDICTION_VIEW


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb validate`; `ptqdb validate --view baseline_bits`; "
        "`ptqdb validate --curve hill --leave-out architecture --format json`"
    )(validate)


def validate(
    view: View = PREDICTION_VIEW,
    db: ReadDatabase = None,
    curve: Annotated[
        str, typer.Option(help="The curve's name.", autocompletion=completion.curves)
    ] = PREDICTION_CURVE,
    where: Annotated[
        str | None, typer.Option(help="A SQL condition on the view's columns.")
    ] = None,
    leave_out: LeaveOutOption = "network",
    interval: Coverage = COVERAGE,
    output: Format = OutputFormat.TABLE,
) -> None:
    """Leave out each network in turn, predict it from the others, and compare.

    coverage is the share of measured losses inside the intervals. The interval score is their
    width plus a penalty for every miss; smaller is better. Bands are by measured loss: near
    lossless (below 5 %), middle, collapsed (not above chance). The lossless rank correlation is
    among formats that lose less than 5 %, the hardest to rank.
    """
    with open_reader(db) as study:
        for remark in study.remarks(view, where):
            say(remark)
        rows = study.validate(
            view, curve=curve, where=where, leave_out=leave_out, coverage=interval
        )
    dicts = [row.as_dict() for row in rows]
    print_rows(list(dicts[0]), dicts, output)
