"""Builds the sections of the page from a database."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from ptqdb.charts import (
    crowding_chart,
    distribution_chart,
    fit_chart,
    frontier_chart,
    layers_chart,
    leaderboard_chart,
    networks_chart,
    residuals_chart,
)
from ptqdb.charts.board import read_board
from ptqdb.charts.distributions import layers_that_lose_most, read_distributions
from ptqdb.charts.fit import Drawn
from ptqdb.charts.reading import frontier_rows, layer_rows
from ptqdb.database import query, read_view
from ptqdb.defaults import COVERAGE, FIT_VIEW, PREDICTION_CURVE, PREDICTION_VIEW
from ptqdb.errors import DataError
from ptqdb.fitting.fitted_view import FittedView
from ptqdb.fitting.validation import ValidationRow, validate_view_frame
from ptqdb.fitting.view_fit import ALL, finite_rows
from ptqdb.report.figures import Choice, Figure, Key, Section
from ptqdb.report.fits import Fits
from ptqdb.report.text import Number, amount, code, fixed, percent, said, subheading, table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Body = list[str | Figure]
Charts = dict[Key, Any]
EVERY_NETWORK = "all networks"
CROWDING_VIEW = "fakefreeze_flops"
# Of more networks, these many get charts of their own: a page of 200 networks would take minutes
# to write and gigabytes of memory.
MOST_NETWORKS = 40


def section(
    name: str, heading: str, body: Callable[[], Body], *, is_folded: bool = False
) -> Section:
    """Return a section; if the study lacks the data, it has a sentence with the reason."""
    return Section(name, heading, _or_why(body), is_folded=is_folded)


# --- what was collected ----------------------------------------------------------------------


def collected(connection: "DuckDBPyConnection") -> Body:
    """The networks, and the runs that collected them."""
    overview = read_view(connection, "network_overview")
    networks = [
        (
            row["network"],
            row["architecture"],
            f"{row['dataset']}, {row['split']}",
            row["layers"],
            amount(row["params"]),
            amount(row["macs"]),
            percent(row["float_accuracy"], 2),
            None if row["images"] is None else Number(f"{row['images']:,}"),
            row["all_cells"],
            row["missing_cells"],
        )
        for row in overview.iter_rows(named=True)
    ]
    runs = query(
        connection,
        "select started_at, ended_at, version, device, len(cells) as cells, outcome "
        "from collection_run order by run_id",
    )
    return [
        table(
            (
                *("Network", "Architecture", "Images", "Layers", "Params", "MACs"),
                *("Float accuracy", "Evaluated on", "Formats", "Missing"),
            ),
            networks,
        ),
        said(
            "Params: parameters of the float network. MACs: multiply-accumulates of its quantized",
            "layers for one image. Formats: those in which the whole network was evaluated.",
        ),
        subheading("Runs"),
        table(("Started (UTC)", "Ended", "ptqdb", "Device", "Cells", "Outcome"), runs.rows()),
        *failed(connection),
    ]


def failed(connection: "DuckDBPyConnection") -> Body:
    """What could not be collected, with reasons; empty if nothing failed."""
    runs = query(
        connection,
        "select started_at, failure.network, failure.reason from ("
        "select run_id, started_at, unnest(failures) as failure from collection_run"
        ") order by run_id, failure.network",
    )
    ended = query(
        connection,
        "select started_at, outcome from collection_run "
        "where outcome in ('failed', 'interrupted') and len(failures) = 0 order by run_id",
    )
    cells = query(
        connection,
        "select network, number_format, scope, layer, reason from failed_cell_overview "
        "order by network, number_format, scope",
    )
    body: Body = []
    if runs.height or ended.height:
        rows = [*runs.rows(), *((at, "the whole run", outcome) for at, outcome in ended.rows())]
        body += [
            subheading("Networks and runs that failed"),
            table(("Started (UTC)", "Network", "Reason"), rows),
        ]
    if cells.height:
        body += [
            subheading("Formats that could not be evaluated"),
            table(("Network", "Format", "Scope", "Layer", "Reason"), cells.rows()),
        ]
    return body


# --- predictions, and how far to trust them --------------------------------------------------


def prediction(fits: Fits) -> Body:
    """The prediction curve, its validation, and the frontier of bits and loss."""
    whole = fits.get((PREDICTION_VIEW, PREDICTION_CURVE))
    if whole is None:
        raise DataError(f"expected rows in the view {PREDICTION_VIEW}, found none")
    picture = fit_chart(whole.frame, whole.fits, view=PREDICTION_VIEW, predictor=whole.predictor)
    frame, by = frontier_rows(whole, PREDICTION_CURVE)
    return [
        said(
            "Each point is a network in a number format: x is how far the format changes its",
            "values, y the accuracy loss. From this curve, ptqdb predict and ptqdb recommend",
            "predict the loss of another network, without evaluating it quantized.",
        ),
        Figure("prediction-fit", {(): picture}),
        subheading("Each network predicted from the others"),
        *_or_why(lambda: _validation(whole)),
        subheading("Accuracy loss by bit width"),
        Figure("frontier", {(): frontier_chart(frame, subtitle=by)}),
    ]


def _or_why(body: Callable[[], Body]) -> Body:
    """A part of a section, or the reason why it is missing."""
    try:
        return body()
    except DataError as error:
        return [said(f"Nothing to show: {error}.")]


def _validation(whole: FittedView) -> Body:
    rows = validate_view_frame(whole.frame, curve=PREDICTION_CURVE)
    return [
        said(
            "Each network is left out in turn and predicted from the others, by",
            f"{PREDICTION_CURVE} over {PREDICTION_VIEW}. The intervals have a nominal coverage",
            f"of {COVERAGE:.0%}.",
            "Losses and errors are in percent of the float accuracy. The interval score is width",
            "plus a penalty for every miss; smaller is better. The last rows group points by",
            "their measured loss: below 5 %, between, and not above chance.",
        ),
        table(
            (
                *("", "Points", "Inside", "Mean width", "Interval score", "RMSE"),
                *("Median error", "Rank correlation", "Rank correlation below 5 % loss"),
            ),
            map(_validation_row, rows),
        ),
    ]


def _validation_row(row: ValidationRow) -> tuple[Any, ...]:
    return (
        "all networks" if row.group == ALL else row.group,
        row.points,
        percent(row.coverage),
        percent(row.mean_width),
        fixed(row.interval_score),
        percent(row.rmse, 2),
        percent(row.median_error, 2),
        fixed(row.rank_correlation),
        fixed(row.lossless_rank_correlation),
    )


def leaderboard(connection: "DuckDBPyConnection", fits: Fits) -> Body:
    """Views x curves."""
    entries, note = read_board(connection, fitted=fits)
    return [Figure("leaderboard", {(): leaderboard_chart(entries, note=note)}, is_wide=True)]


# --- loss over divergence --------------------------------------------------------------------


def explorer(fits: Fits, views: Sequence[str], curves: Sequence[str]) -> Body:
    """The fit of any view, curve and network; of many networks, the first `MOST_NETWORKS`."""
    every = fits[views[0], curves[0]].networks
    networks = every[:MOST_NETWORKS]
    charts: Charts = {}
    for view in views:
        frame = fits[view, curves[0]].frame
        drawn = set(finite_rows(frame)["network"])
        for group in (EVERY_NETWORK, *networks):
            network = None if group == EVERY_NETWORK else group
            if network is not None and network not in drawn:
                continue
            points = Drawn.of(frame, view, network)
            for curve in curves:
                whole = fits[view, curve]
                band = whole.predictor if network is None else None
                charts[view, curve, group] = points.with_curves(whole.fits, band)
    choices = (
        Choice("View", tuple(views)),
        Choice("Curve", tuple(curves)),
        Choice("Network", (EVERY_NETWORK, *networks)),
    )
    return [
        said(
            "Trust the held-out R²: each network is predicted by a curve fitted without it.",
        ),
        *left_out(len(every)),
        Figure("explorer", charts, choices),
    ]


def left_out(count: int) -> Body:
    """A sentence if there are too many networks for charts of each."""
    if count <= MOST_NETWORKS:
        return []
    return [
        said(
            f"The first {MOST_NETWORKS} of {count} networks are shown one by one:",
            "`ptqdb chart fit --network NAME` draws any of them.",
        )
    ]


def networks(fits: Fits, views: Sequence[str], curve: str) -> Body:
    """The fit of each network in its own panel, and the residuals of the pooled curve."""
    choice = (Choice("View", tuple(views)),)
    whole = {view: fits[view, curve] for view in views}
    return [
        Figure(
            "networks",
            {
                (view,): networks_chart(one.frame, one.fits, view=view)
                for view, one in whole.items()
            },
            choice,
        ),
        subheading("Residuals of the pooled curve"),
        Figure(
            "residuals",
            {
                (view,): residuals_chart(one.frame, one.pool, view=view)
                for view, one in whole.items()
                if one.pool.fitted is not None
            },
            choice,
            is_wide=True,
        ),
    ]


# --- formats and layers ----------------------------------------------------------------------


def powers_of_two(connection: "DuckDBPyConnection") -> Body:
    """The crowding of POT formats."""
    points = read_view(connection, CROWDING_VIEW)
    return [
        said("From POT_4 on, each further bit only adds codes next to zero."),
        Figure("crowding", {(): crowding_chart(points, view=CROWDING_VIEW)}),
    ]


def layers(connection: "DuckDBPyConnection") -> Body:
    """Each layer's contribution to the divergence, and the weights of the largest ones."""
    frame = layer_rows(connection, PREDICTION_VIEW)
    frame = frame.filter(pl.col("contribution").is_finite())
    names = tuple(frame["network"].unique(maintain_order=True).sort())
    maps: Charts = {
        (name,): layers_chart(frame.filter(pl.col("network") == name), view=PREDICTION_VIEW)
        for name in names
    }
    worst: dict[str, list[tuple[str, str]]] = {}
    for network, layer in layers_that_lose_most(connection):
        worst.setdefault(network, []).append((network, layer))
    most: Charts = {
        (network,): distribution_chart(read_distributions(connection, chosen))
        for network, chosen in worst.items()
    }
    return [
        Figure("layers", maps, (Choice("Network", names),), is_wide=True),
        subheading("Layers with the largest contributions"),
        said("For each network, the two that add most to its divergence in the formats shown."),
        Figure("worst-layers", most, (Choice("Network", tuple(worst)),), is_wide=True),
    ]


# --- SQL -------------------------------------------------------------------------------------

QUERIES = (
    (
        "The cheapest format within one percent of the accuracy",
        "select network, min_by(number_format, bits) as number_format, min(bits) as bits\n"
        f"from {FIT_VIEW}\n"
        "where accuracy_loss < 0.01\n"
        "group by network\n"
        "order by network",
    ),
    (
        "The same points with a measure that has no named view",
        "from variant(measure := 'nsr', share := 'layer', mac_weight := 'rootdepth')\n"
        "where number_format = 'INT_4'",
    ),
    (
        "The layers that contribute most to a divergence",
        "select network, layer, share, divergence, contribution\n"
        "from layer_divergence\n"
        "where number_format = 'POT_4'\n"
        "order by contribution desc\n"
        "limit 10",
    ),
    (
        "The meaning of every table, view and column",
        "select object, column_name, comment\nfrom data_dictionary\nwhere object = 'tensor_shape'",
    ),
)


def questions(file: str | None) -> Body:
    """Example queries on a file; None for the embedded study."""
    option = "" if file is None else f" --db {file}"
    body: Body = [
        said(
            "Everything on this page can be queried: the database stores counts and sums, and SQL",
            "views define all formulas.",
        ),
        code(
            f'ptqdb sql "from network_overview"{option}\n'
            f"ptqdb views 'fakefreeze_*'{option}\n"
            f"ptqdb chart variants --view l2_flops --view nsr_flops{option} -o variants.png\n"
            f"ptqdb fit --view {FIT_VIEW}{option}"
        ),
    ]
    for question, sql in QUERIES:
        body += [subheading(question), code(sql)]
    return body
