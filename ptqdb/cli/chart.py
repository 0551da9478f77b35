"""``ptqdb chart``: draw a chart of the study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptqdb.cli import completion
from ptqdb.cli.options import VIEW_HELP, ReadDatabase, refuse, split_list
from ptqdb.cli.output import say
from ptqdb.cli.reading import open_reader
from ptqdb.defaults import FIT_CURVE, FIT_VIEW, ChartKind, ThemeName, XScale

if TYPE_CHECKING:
    from ptqdb.charts.pictures import Request

TABLE = "Points from a file"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb chart fit --view fakefreeze_flops_log -o fit.html`; "
        "`ptqdb chart variants --curve rational2,rational3,rational4 -o degrees.png`; "
        "`ptqdb chart variants --view fakefreeze_param --view fakefreeze_flops --network VGG_16`; "
        "`ptqdb chart distribution --layer VGG_16:features.0 --theme dark -o layer.svg`; "
        "`ptqdb chart --from points.csv --x js --y loss --by network -o points.png`"
    )(chart)


def chart(
    kind: Annotated[ChartKind, typer.Argument(help="Kind of chart.")] = "fit",
    views: Annotated[
        list[str] | None,
        typer.Option(
            "--view",
            help=f"{VIEW_HELP} variants and leaderboard take several, leaderboard also globs; "
            "distribution takes none.",
            autocompletion=completion.views,
            show_default=f"{FIT_VIEW}; layers, frontier, crowding, variants and leaderboard have "
            "their own",
        ),
    ] = None,
    db: ReadDatabase = None,
    curve: Annotated[
        str | None,
        typer.Option(
            help="The curve's name; fit, networks and variants take several, comma-separated; "
            "frontier and residuals take one.",
            show_default=FIT_CURVE,
            autocompletion=completion.curves,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Only this network (fit, variants, distribution, layers, frontier, crowding).",
            show_default="all; for layers the first by name",
            autocompletion=completion.collected_networks,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="For distribution: NETWORK:LAYER, or a layer of --network; repeat to compare "
            "several.",
            show_default="the highest and the lowest kurtosis",
        ),
    ] = None,
    x_scale: Annotated[
        XScale | None,
        typer.Option(
            help="Scale of the divergence axis in fit, networks and variants.", show_default="auto"
        ),
    ] = None,
    theme: Annotated[ThemeName, typer.Option(help="Colour theme.")] = "light",
    table: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Draw the points of a .csv, .parquet or .json file (fit, networks), not of a "
            "database.",
            rich_help_panel=TABLE,
        ),
    ] = None,
    x: Annotated[str | None, typer.Option(help="Column for x.", rich_help_panel=TABLE)] = None,
    y: Annotated[str | None, typer.Option(help="Column for y.", rich_help_panel=TABLE)] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Column of networks or other groups.",
            show_default="network, if the file has it",
            rich_help_panel=TABLE,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .html, .png, .svg or .json file.", show_default="KIND.html"
        ),
    ] = None,
) -> None:
    """Draw a chart of the study.

    fit: loss over divergence, with the curve and the prediction band for new networks.
    networks: the same, one panel per network. variants: views or curves side by side.
    distribution: histograms of a layer's weights, float and quantized. layers: each layer's
    contribution to the divergence of --view, largest first, next to the loss with only that layer
    quantized (`ptqdb collect --scopes layer`). frontier: loss against bits. leaderboard: which
    view and curve predict best. crowding: how POT formats crowd at one divergence. residuals:
    measured minus fitted loss.
    """
    from ptqdb.charts import save_chart
    from ptqdb.charts.pictures import Request
    from ptqdb.charts.saving import check_path

    path = output or Path(f"{kind}.html")
    check_path(path)
    request = Request(
        views=tuple(views or ()),
        curves=() if curve is None else split_list(curve),
        network=network,
        layers=tuple(layer or ()),
        x_scale=x_scale or "",
        theme=theme,
    )
    if table is None:
        refuse({"--x": x, "--y": y, "--by": by}, "can only be used with --from FILE")
        with open_reader(db) as study:
            drawn = study.chart(
                request.views,
                kind=kind,
                curve=request.curves,
                network=network,
                layers=request.layers,
                x_scale=request.x_scale,
                theme=request.theme,
            )
    else:
        refuse({"--view": views, "--layer": layer}, "cannot be used with --from FILE")
        drawn = _draw_table(table, kind, request, x, y, by)
    save_chart(drawn, path)
    say(f"wrote {path}")


def _draw_table(
    path: Path, kind: ChartKind, request: "Request", x: str | None, y: str | None, by: str | None
) -> Any:
    from ptqdb.charts.axes import Columns
    from ptqdb.charts.pictures import draw_table
    from ptqdb.fitting.points_table import read_points

    frame = read_points(path, x, y, by)
    columns = Columns(str(x), str(y))
    return draw_table(frame, columns, kind, name=path.name, by=by, request=request)
