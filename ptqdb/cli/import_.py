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
            help="Prefix for the names of the imported networks: `theirs_` makes AlexNet "
            "theirs_AlexNet.",
            show_default=False,
        ),
    ] = "",
    wait: Wait = 0,
) -> None:
    """Merge an exported study into a database, which is created if missing.

    An existing network gets only the cells it lacks. The import is refused as a whole if a network
    of the same name has another checkpoint or other images (`--prefix` keeps both), if an existing
    cell has other facts, or if facts contradict each other. Importing again changes nothing.
    """
    from ptqdb.study import open_study

    with open_study(db, create=True) as study:
        added = study.merge(folder, prefix=prefix, wait_s=wait, remarked=say)
    say(
        f"added {added['network']} networks, {added['evaluation']} evaluations and "
        f"{added['quantized_tensor'] + added['dequantized_tensor']} quantized tensors to {db}"
    )
