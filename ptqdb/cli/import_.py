"""``ptqdb import``: merge an exported study into a database."""

from pathlib import Path
from typing import Annotated

import typer

from ptqdb.cli.options import DEFAULT_DATABASE, Database, Wait
from ptqdb.cli.output import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", epilog="Example: `ptqdb import facts --db study.duckdb`")(import_)


def import_(
    folder: Annotated[Path, typer.Argument(help="A folder that `ptqdb export` wrote.")],
    db: Database = DEFAULT_DATABASE,
    wait: Wait = 0,
) -> None:
    """Merge a study into a database, which is created if need be.

    A network that is there already gets only the cells that it lacks; one of the same name with
    another checkpoint or other images is refused. Importing again changes nothing.
    """
    from ptqdb.database import connect
    from ptqdb.studies import import_study

    with connect(db, read_only=False, wait_s=wait, remarked=say) as connection:
        added = import_study(connection, folder, say)
    say(
        f"added {added['network']} networks, {added['evaluation']} evaluations and "
        f"{added['quantized_tensor']} quantized tensors to {db}"
    )
