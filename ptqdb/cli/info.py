"""``ptqdb info``: what a database contains and lacks."""

import typer

from ptqdb.cli.options import Format, ReadDatabase
from ptqdb.cli.output import OutputFormat, print_frame, say
from ptqdb.cli.reading import open_reader, tell_failed_cells
from ptqdb.defaults import FIT_VIEW, PREDICTION_VIEW

TABLES = ("network", "layer", "tensor", "quantized_tensor", "dequantized_tensor", "evaluation")
VIEWS = (FIT_VIEW, PREDICTION_VIEW, "format_frontier", "layer_divergence", "data_dictionary")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: `ptqdb info --db study.duckdb`")(info)


def info(db: ReadDatabase = None, output: Format = OutputFormat.TABLE) -> None:
    """Show the networks, formats and images in a file, and which cells are missing.

    A cell is missing if it has no evaluation although a run planned it or it belongs to the
    study's grid of formats. Cells that cannot be evaluated because the network's own code fails
    are counted separately and listed on stderr with the reason.
    """
    with open_reader(db) as study:
        print_frame(study.sql("select * from network_overview"), output)
        tell_failed_cells(study.connection)
    if output is OutputFormat.TABLE:
        say(
            f"to query with `ptqdb sql`: the tables {', '.join(TABLES)}; the views "
            f"{', '.join(VIEWS)}. `ptqdb views` lists all views"
        )
