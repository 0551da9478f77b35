"""``ptqdb import``: merge an exported study into a database."""

from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import Database, Wait
from ptqdb.cli.output import say
from ptqdb.defaults import DEFAULT_DATABASE


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", epilog="Example: `ptqdb import facts --db study.duckdb`")(import_)


def import_(
    folder: Annotated[Path, typer.Argument(help="A folder that `ptqdb export` wrote.")],
    db: Database = DEFAULT_DATABASE,
    prefix: Annotated[
        str,
        typer.Option(
            help="Put this before the names of the imported networks: `theirs_` makes AlexNet "
            "theirs_AlexNet.",
            show_default=False,
        ),
    ] = "",
    wait: Wait = 0,
) -> None:
    """Merge a study into a database, which is created if need be.

    A network that is there already gets only the cells that it lacks. Refused, and then nothing
    is imported: a network of the same name with another checkpoint or other images (`--prefix`
    keeps both), other facts of a cell that is there, and facts that contradict each other.
    Importing again changes nothing.
    """
    from ptqdb.study import open_study

    with open_study(db, create=True) as study:
        added = study.merge(folder, prefix=prefix, wait_s=wait, remarked=say)
    say(
        f"added {added['network']} networks, {added['evaluation']} evaluations and "
        f"{added['quantized_tensor']} quantized tensors to {db}"
    )
