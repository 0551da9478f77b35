"""The sections of the page, from a database."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from ptqdb.board import board_of
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
from ptqdb.defaults import COVERAGE, FIT_VIEW, PREDICTION_CURVE, PREDICTION_VIEW
from ptqdb.distributions import distributions_of, layers_that_lose_most
from ptqdb.errors import DataError
from ptqdb.fitting import ALL, finite_rows
from ptqdb.interval_validation import ValidationRow, validate_view_frame
from ptqdb.pictures import frontier_rows, layer_rows, view_rows
from ptqdb.report.figures import Choice, Figure, Key, Section
from ptqdb.report.fits import Fits
from ptqdb.report.text import Number, amount, code, fixed, percent, said, table

if TYPE_CHECKING:
    from ptqdb.study import Study

Body = list[str | Figure]
Charts = dict[Key, Any]
EVERY_NETWORK = "all networks"
CROWDING_VIEW = "fakefreeze_flops"


def section(name: str, heading: str, body: Callable[[], Body]) -> Section:
    """A section; where a study has not what it takes, a sentence says what."""
    try:
        return Section(name, heading, body())
    except DataError as error:
        return Section(name, heading, [said(f"Nothing to show: {error}.")])


# --- what was collected ----------------------------------------------------------------------


def collected(study: "Study") -> Body:
    """The networks, and the runs that collected them."""
    overview = study.view("network_overview")
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
    runs = study.sql(
        "select started_at, ended_at, version, device, len(cells) as cells, outcome "
        "from collection_run order by run_id"
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
            "Params are those of the float network; MACs the multiply-accumulates of its quantized",
            "layers for one image. Formats are those that the whole network was evaluated in.",
        ),
        "<h3>When</h3>",
        table(("Started (UTC)", "Ended", "ptqdb", "Device", "Cells", "Outcome"), runs.rows()),
    ]


# --- loss over divergence --------------------------------------------------------------------


def explorer(fits: Fits, views: Sequence[str], curves: Sequence[str]) -> Body:
    """Any view, curve and network."""
    networks = fits[views[0], curves[0]].networks
    charts: Charts = {}
    drawn = {view: set(finite_rows(fits[view, curves[0]].frame)["network"]) for view in views}
    for view in views:
        for curve in curves:
            whole = fits[view, curve]
            for group in (EVERY_NETWORK, *networks):
                network = None if group == EVERY_NETWORK else group
                if network is not None and network not in drawn[view]:
                    continue
                charts[view, curve, group] = fit_chart(
                    whole.frame,
                    whole.fits,
                    view=view,
                    network=network,
                    predictor=whole.predictor if network is None else None,
                )
    choices = (
        Choice("View", tuple(views)),
        Choice("Curve", tuple(curves)),
        Choice("Network", (EVERY_NETWORK, *networks)),
    )
    return [
        said(
            "Every point is a network in a number format: how far the format moves its numbers,",
            "and how much of its accuracy that costs. Held out is what counts: each network",
            "predicted by a curve that never saw it.",
        ),
        Figure("explorer", charts, choices),
    ]


def networks(fits: Fits, views: Sequence[str], curve: str) -> Body:
    """Each network in a panel of its own, and what the pooled curve misses."""
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
        "<h3>What the pooled curve misses</h3>",
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


def formats(study: "Study") -> Body:
    """Bits against loss, and the column of powers of two."""
    frame, by = frontier_rows(view_rows(study, PREDICTION_VIEW), PREDICTION_VIEW, PREDICTION_CURVE)
    body: Body = [Figure("frontier", {(): frontier_chart(frame, subtitle=by)})]
    points = study.view(CROWDING_VIEW)
    if "POT" in set(points["family"]):
        body += [
            "<h3>Powers of two</h3>",
            said("From POT_4 on, a further bit only adds codes next to zero."),
            Figure("crowding", {(): crowding_chart(points, view=CROWDING_VIEW)}),
        ]
    return body


def layers(study: "Study") -> Body:
    """What each layer adds, and the weights of those that add most."""
    frame = layer_rows(study, PREDICTION_VIEW)
    frame = frame.filter(pl.col("contribution").is_finite())
    names = tuple(frame["network"].unique(maintain_order=True).sort())
    maps: Charts = {
        (name,): layers_chart(frame.filter(pl.col("network") == name), view=PREDICTION_VIEW)
        for name in names
    }
    worst: dict[str, list[tuple[str, str]]] = {}
    for network, layer in layers_that_lose_most(study):
        worst.setdefault(network, []).append((network, layer))
    most: Charts = {
        (network,): distribution_chart(distributions_of(study, chosen))
        for network, chosen in worst.items()
    }
    return [
        Figure("layers", maps, (Choice("Network", names),), is_wide=True),
        "<h3>The layers that lose most</h3>",
        said("Of each network the two that add most to its divergence in the formats shown."),
        Figure("worst-layers", most, (Choice("Network", tuple(worst)),), is_wide=True),
    ]


# --- how far to trust it ---------------------------------------------------------------------


def leaderboard(study: "Study") -> Body:
    """Views x curves."""
    entries, note = board_of(study)
    return [Figure("leaderboard", {(): leaderboard_chart(entries, note=note)}, is_wide=True)]


def validation(study: "Study") -> Body:
    """Each network predicted from the others, with intervals."""
    rows = validate_view_frame(view_rows(study, PREDICTION_VIEW), curve=PREDICTION_CURVE)
    return [
        said(
            f"Each network left out in turn and predicted from the others, by {PREDICTION_CURVE}",
            f"over {PREDICTION_VIEW}; the intervals should hold {COVERAGE:.0%} of the losses.",
            "Losses and errors are in percent of the float accuracy; the interval score is width",
            "plus a fine for every miss, the smaller the better. The last rows are of points by",
            "their measured loss: below 5 %, between, and not above chance.",
        ),
        table(
            (
                *("", "Points", "Inside", "Mean width", "Interval score", "RMSE"),
                *("Median error", "Rank correlation", "the same below 5 % loss"),
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
        "The same points under a measure that has no name yet",
        "from variant(measure := 'nsr', share := 'layer', mac_weight := 'rootdepth')\n"
        "where number_format = 'INT_4'",
    ),
    (
        "The layers that make up a divergence",
        "select network, layer, share, divergence, contribution\n"
        "from layer_divergence\n"
        "where number_format = 'POT_4'\n"
        "order by contribution desc\n"
        "limit 10",
    ),
    (
        "What every table, view and column means",
        "select object, column_name, comment\nfrom data_dictionary\nwhere object = 'tensor_shape'",
    ),
)


def questions(study: "Study") -> Body:
    """How to ask more."""
    file = study.path.name if study.path else None
    option = "" if file is None else f" --db {file}"
    body: Body = [
        said(
            "Everything on this page is a query away: the database holds counts and sums, and SQL",
            "says what they mean.",
        ),
        code(
            f'ptqdb sql "from network_overview"{option}\n'
            f"ptqdb views 'fakefreeze_*'{option}\n"
            f"ptqdb chart variants --view l2_flops --view nsr_flops{option} -o variants.png\n"
            f"ptqdb fit --view {FIT_VIEW}{option}"
        ),
    ]
    for question, query in QUERIES:
        body += [f"<h3>{question}</h3>", code(query)]
    return body
