"""``ptqdb views``: list the named views and their SQL."""

from typing import Annotated

import typer

from ptqdb.cli.options import Format, ReadDatabase
from ptqdb.cli.output import OutputFormat, print_frame, say, write
from ptqdb.cli.reading import open_reader
from ptqdb.defaults import DEFAULT_PROBE_COUNT
from ptqdb.support.text import visible


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Examples: `ptqdb views 'fakefreeze_*'`, `ptqdb views pot_crowding --sql`")(
        views
    )


def views(
    pattern: Annotated[str, typer.Argument(help="A name or glob.")] = "*",
    db: ReadDatabase = None,
    show_sql: Annotated[bool, typer.Option("--sql", help="Print the views' SQL.")] = False,
    output: Format = OutputFormat.TABLE,
) -> None:
    """List the views with their meaning.

    With --sql, print the SQL statements; as json, csv, markdown or parquet next to the meaning.
    """
    from ptqdb.database import measures_sensitivity, read_view

    with open_reader(db) as study:
        frame = study.views(pattern)
        names = [name for name in frame["view"] if name.endswith("_sensitivity")]
        if names and not measures_sensitivity(study.connection):
            empty = names[0] if len(names) == 1 else f"the {len(names)} views *_sensitivity"
            say(f"empty: {empty}: needs `ptqdb collect --scopes weight,bias`")
        probed = [name for name in frame["view"] if name.startswith("probe_")]
        if probed and not read_view(study.connection, probed[0]).height:
            empty = probed[0] if len(probed) == 1 else f"the {len(probed)} views probe_*"
            say(f"empty: {empty}: needs `ptqdb collect --probe {DEFAULT_PROBE_COUNT}`")
    if show_sql and output is OutputFormat.TABLE:
        for sql in frame["sql"]:
            write(visible(sql, keep="\n\t") + "\n")
    else:
        if output in (OutputFormat.TABLE, OutputFormat.MARKDOWN):
            # descriptions are wrapped in the SQL source
            frame = frame.with_columns(frame["description"].str.replace_all(r"\s+", " "))
        print_frame(frame if show_sql else frame.drop("sql"), output)
