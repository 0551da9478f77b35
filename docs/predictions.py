"""The tables of docs/explanation/prediction.md and published.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from ptqdb.curves import curve
from ptqdb.curves.points import Points
from ptqdb.database import query, read_view, uses_probe
from ptqdb.defaults import PREDICTION_CURVE, PREDICTION_VIEW, PROBE_VIEW
from ptqdb.fitting.compare import Leaderboard, OpenDatabase, compare
from ptqdb.fitting.cross_validation import HeldOut
from ptqdb.fitting.intervals import LossPredictor, Prediction, interval_score
from ptqdb.fitting.leaderboard import Entry, rank_entries
from ptqdb.fitting.probing import ProbeSample, as_it_stands
from ptqdb.fitting.validation import (
    LOSSLESS,
    ValidationRow,
    predict_each_left_out,
    validate_view_frame,
)
from ptqdb.fitting.view_fit import finite_rows, group_names, unit_names, view_points

VALIDATED_VIEWS = (
    *(PREDICTION_VIEW, "channelnsr_nodiv_layer_coherence", "channelnsr_nodiv_layer_coherence_both"),
    "channelnsr_layer_fanin",
    *("channelnsr_layer_rootdepth_rootfanin", "channelnsr_layer_depth", "nsr_layer_rootdepth"),
    *("fakefreeze_flops", "fakefreeze_flops_log", "baseline_nsr", "baseline_bits"),
)
# What is known of a network, the view and the curve.
TIERS = (
    ("weights", PREDICTION_VIEW, "hill"),
    ("weights and inputs", "channelnsr_nodiv_layer_coherence_both", "hill"),
    ("probe", PROBE_VIEW, "hill"),
    ("probe", "probe_agreement", "hill"),
    ("probe", "probe_kl", "isotonic"),
    ("probe", "probe_logit", "isotonic"),
)
UNITS = ("network", "architecture")
# The curves that pass through 0, the tradition, and the two that follow any shape.
VALIDATED_CURVES = ("hill", "hill_chance", "rational2", "spline", "isotonic")
TRANSFER_VIEWS = (
    *(PREDICTION_VIEW, "channelnsr_nodiv_layer_coherence_both", "channelnsr_layer_fanin"),
    *("channelnsr_layer_rootdepth_rootfanin", "nsr_layer_rootdepth", "baseline_bits"),
)
# Of the networks of the full study, beside those of the embedded study.
WIDE = "wide_"
SHOWN = 10
DIVERGENCES = ("fakefreeze_", "l2_")

# Convolutions and linear layers of the published networks, as their architectures say: for
# ResNet_50 a stem, 16 blocks of three, four shortcuts and the head.
DEPTHS = {
    "AlexNet": 8,
    "AlexNet_BN": 8,
    "VGG_16": 16,
    "VGG_19": 19,
    "Inception_BN": 57,
    "MobileNetV2": 53,
    "ResNet_18": 21,
    "ResNet_50": 54,
    "ResNet_152": 156,
}
# Two printed curves that fall in places, and a pool of two networks more than the points.
INCOMPARABLE = {("cifar10_cosine_adam", name) for name in ("AlexNet", "VGG_16", "ALL")}
PUBLISHED_COLUMNS = {
    "js_flops_depth": "`js_flops` times the depth",
    "js_flops": "`js_flops`",
    "code_width": "bits",
}

Rows = list[tuple[str, ...]]


# --- the embedded study ----------------------------------------------------------------------


def interval_rows(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Coverage, width and score of each view, by network and by architecture."""
    rows: Rows = []
    for view in VALIDATED_VIEWS:
        frame = read_view(connection, view)
        cells = [f"`{view}`"]
        for unit in UNITS:
            whole = validate_view_frame(frame, curve=PREDICTION_CURVE, leave_out=unit)[0]
            cells += [f"{whole.coverage:.1%}", f"{whole.mean_width:.3f}"]
            cells += [f"{whole.interval_score:.3f}"]
        rows.append(tuple(cells))
    return rows


def validation_rows(connection: duckdb.DuckDBPyConnection) -> Rows:
    """The default view, by network and by band."""
    frame = read_view(connection, PREDICTION_VIEW)
    return [_validation_row(row) for row in validate_view_frame(frame, curve=PREDICTION_CURVE)]


def _validation_row(row: ValidationRow) -> tuple[str, ...]:
    return (
        row.group,
        str(row.points),
        f"{row.coverage:.1%}",
        f"{row.mean_width:.3f}",
        f"{row.interval_score:.3f}",
        _cell(row.rmse, 4),
        _cell(row.median_error, 4),
        _cell(row.rank_correlation, 3),
        _cell(row.lossless_rank_correlation, 3),
    )


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True)
class Comparison:
    """The leaderboards with networks and with architectures left out."""

    network: Leaderboard
    architecture: Leaderboard

    @classmethod
    def of(cls, open_database: OpenDatabase, job_count: int) -> "Comparison":
        """Fit all that is not fitted yet; minutes."""
        network, architecture = (
            compare(open_database, leave_out=unit, job_count=job_count) for unit in UNITS
        )
        return cls(network, architecture)

    def rows(self) -> Rows:
        """The best that look at no loss, the best divergence, the default, the baselines' best."""
        other = {(one.view, one.curve): one for one in self.architecture.entries}
        eligible = [
            one
            for one in self.network.entries
            if one.view not in self.network.evaluated_views and not uses_probe(one.view)
        ]
        best = [one for one in eligible if not one.is_baseline][:SHOWN]
        baselines = [one for one in eligible if one.is_baseline]
        first = {one.view: one for one in reversed(baselines)}
        divergence = next(one for one in eligible if one.view.startswith(DIVERGENCES))
        default = next(
            one for one in eligible if (one.view, one.curve) == (PREDICTION_VIEW, PREDICTION_CURVE)
        )
        shown = ranked_once([*best, divergence, default, *first.values()])
        return [leaderboard_row(one, other[one.view, one.curve]) for one in shown]


def ranked_once(entries: Sequence[Entry]) -> list[Entry]:
    """The best held-out R² first, each entry once."""
    return rank_entries(list({(one.view, one.curve): one for one in entries}.values()))


def leaderboard_row(network: Entry, architecture: Entry) -> tuple[str, ...]:
    """A view and curve, held out by network and by architecture."""
    return (
        f"`{network.view}`",
        f"`{network.curve}`",
        _cell(network.held_out_r_squared, 4),
        _cell(network.held_out_rmse, 4),
        _cell(network.held_out_median_error, 4),
        _cell(architecture.held_out_r_squared, 4),
        _cell(network.r_squared, 4),
        _cell(network.ceiling_r_squared, 4),
    )


def tier_rows(connection: duckdb.DuckDBPyConnection) -> Rows:
    """What is known of a network, and how well that predicts: each left out in turn."""
    rows: Rows = []
    for tier, view, name in TIERS:
        judged = Judged.of(read_view(connection, view), name)
        rows.append((tier, f"`{view}`", f"`{name}`", *judged.cells))
    return rows


def as_it_stands_rows(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Soft agreement itself as the loss of each network: no curve, no reference."""
    frame = finite_rows(read_view(connection, PROBE_VIEW))
    points, names = view_points(frame), group_names(frame["network"])
    images = query(
        connection,
        "select network.name as network, format_name(number_format.name, scheme.name) as "
        "number_format, probe.image_count, "
        "probe.image_count - probe.same_prediction as changed_count from probe "
        "join network using (network_id) join number_format using (number_format_id) "
        "join scheme using (scheme_id)",
    )
    joined = frame.join(images, on=["network", "number_format"], maintain_order="left")
    sample = ProbeSample(joined["image_count"].to_numpy(), joined["changed_count"].to_numpy())
    found = as_it_stands(points.x, sample)
    inside = (found.lower <= points.y) & (points.y <= found.upper)
    whole, rows = HeldOut(points.y, found.loss, points.weights), []
    for name in ["ALL", *np.unique(names).tolist()]:
        members = np.full(len(names), True) if name == "ALL" else names == name
        one, weights = whole.where(members), points.weights[members]
        bias = float(np.average(one.predicted - one.y, weights=weights))
        coverage = float(np.average(inside[members], weights=weights))
        rows.append(
            (
                name,
                _cell(one.r_squared, 4),
                f"{one.median_error or 0:.2%}",
                f"{bias:+.2%}",
                f"{coverage:.1%}",
            )
        )
    return rows


# --- both studies ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """Networks of a view, each predicted from the others; see `HeldOut` and `ValidationRow`."""

    whole: HeldOut
    networks: Mapping[str, HeldOut]
    lossless: HeldOut
    coverage: float
    score: float

    @classmethod
    def of(cls, frame: pl.DataFrame, curve_name: str, leave_out: str = "network") -> "Judged":
        """Leave out each network, or each architecture."""
        frame = finite_rows(frame)
        points, units = view_points(frame), unit_names(frame, leave_out)
        found = predict_each_left_out(points, curve(curve_name), units, leave_out=leave_out)
        inside = (found.lower <= points.y) & (points.y <= found.upper)
        whole = HeldOut(points.y, found.loss, points.weights)
        names = group_names(frame["network"])
        score = interval_score(points.y, found.lower, found.upper)
        return cls(
            whole,
            {name: whole.where(names == name) for name in np.unique(names).tolist()},
            whole.where(points.y < LOSSLESS),
            float(np.average(inside, weights=points.weights)),
            float(np.average(score, weights=points.weights)),
        )

    @property
    def worst(self) -> str:
        """The network with the lowest R², and that R²."""
        figures = {name: one.r_squared or 0.0 for name, one in self.networks.items()}
        name = min(figures, key=lambda name: figures[name])
        return f"{figures[name]:.3f} ({name})"

    @property
    def cells(self) -> tuple[str, ...]:
        """R², the worst network, errors in percent, coverage and score."""
        lossless = self.lossless
        bias = float(np.average(lossless.predicted - lossless.y, weights=lossless.weights))
        return (
            _cell(self.whole.r_squared, 4),
            self.worst,
            f"{self.whole.median_error or 0:.2%}",
            f"{lossless.median_error or 0:.2%}",
            f"{bias:+.2%}",
            f"{self.coverage:.1%}",
            f"{self.score:.3f}",
        )


def measure_rows(both: duckdb.DuckDBPyConnection) -> Rows:
    """Each measure over the networks of both studies, by network and by architecture."""
    rows: Rows = []
    for view in VALIDATED_VIEWS:
        frame = read_view(both, view)
        by_network = Judged.of(frame, PREDICTION_CURVE)
        by_architecture = Judged.of(frame, PREDICTION_CURVE, "architecture").whole.r_squared
        rows.append((f"`{view}`", *by_network.cells, _cell(by_architecture, 4)))
    return rows


def curve_rows(both: duckdb.DuckDBPyConnection) -> Rows:
    """Each curve over the default view of both studies."""
    frame = read_view(both, PREDICTION_VIEW)
    return [(f"`{name}`", *Judged.of(frame, name).cells) for name in VALIDATED_CURVES]


def from_embedded_rows(both: duckdb.DuckDBPyConnection) -> Rows:
    """Each network of the full study, predicted from the embedded study alone: R² and coverage."""
    frames = {view: finite_rows(read_view(both, view)) for view in TRANSFER_VIEWS}
    is_wide = pl.col("network").str.starts_with(WIDE)
    names = frames[PREDICTION_VIEW].filter(is_wide)["network"].unique().sort()
    rows: Rows = []
    for name in names:
        cells = [name]
        for frame in frames.values():
            reference, own = frame.filter(~is_wide), frame.filter(network=name)
            points, left = view_points(reference), view_points(own)
            predictor = LossPredictor.of(
                points, curve(PREDICTION_CURVE), unit_names(reference, "network")
            )
            found = predictor.predict(left.x)
            inside = (found.lower <= left.y) & (left.y <= found.upper)
            r_squared = HeldOut(left.y, found.loss, left.weights).r_squared
            coverage = float(np.average(inside, weights=left.weights))
            cells.append(f"{_cell(r_squared, 3)}, {coverage:.0%}")
        rows.append(tuple(cells))
    return rows


# --- the published sweeps --------------------------------------------------------------------


def published_points(folder: Path) -> pl.DataFrame:
    """All points, with the width of a code and the MAC-share divergence times the depth."""
    bits = pl.col("number_format").str.extract(r"_(\d+)").cast(pl.Float64)
    depth = pl.col("network").replace_strict(DEPTHS, return_dtype=pl.Float64)
    return pl.read_csv(folder / "points.csv").with_columns(
        code_width=2.0 ** (1 - bits), js_flops_depth=pl.col("js_flops") * depth
    )


@dataclass(frozen=True)
class PublishedFit:
    """A published sweep's network (or pool, ``ALL``), the printed R² and those of ptqdb."""

    study: str
    network: str
    printed: float
    r_squared: float
    ceiling: float
    monotone: bool

    @property
    def is_comparable(self) -> bool:
        """Whether the printed curve is one of a rising curve over the same points."""
        return (self.study, self.network) not in INCOMPARABLE

    @property
    def reaches(self) -> bool:
        """Whether rational2 reaches the printed figure less 0.001."""
        return self.r_squared >= self.printed - 0.001


@cache
def published_fits(folder: Path) -> list[PublishedFit]:
    """Every study and network of which an R² was printed and points were published."""
    points, fits = published_points(folder), []
    for study, network, printed in pl.read_csv(folder / "r_squared.csv").iter_rows():
        rows = points.filter(
            (pl.col("study") == study) & ((pl.col("network") == network) | (network == "ALL"))
        )
        if rows.is_empty():
            continue  # printed, and its points were not published
        x, y = rows["js_flops"].to_numpy(), rows["acc_loss"].to_numpy()
        fitted = curve("rational2").estimate(x, y)
        ceiling = curve("isotonic").estimate(x, y).rsquared
        found = PublishedFit(study, network, printed, fitted.rsquared, ceiling, fitted.monotone)
        fits.append(found)
    return fits


def published_rows(fits: Sequence[PublishedFit]) -> Rows:
    """A row each; figures below the printed one less 0.001 are marked."""
    return [
        (
            fit.study,
            fit.network,
            f"{fit.printed:.4f}",
            f"{fit.r_squared:.4f}" + ("" if fit.reaches else " (below)"),
            f"{fit.ceiling:.4f}",
        )
        for fit in fits
    ]


def left_out(points: pl.DataFrame, study: str, column: str) -> tuple[np.ndarray, Prediction]:
    """The losses of a sweep, and each network predicted from the others of it."""
    rows = points.filter(study=study)
    units = rows["network"].to_numpy().astype(np.str_)
    whole = Points(rows[column].to_numpy(), rows["acc_loss"].to_numpy(), network=units)
    return whole.y, predict_each_left_out(whole, curve(PREDICTION_CURVE), units)


@dataclass(frozen=True)
class PublishedIntervals:
    """Intervals of 90 % over one column of one sweep."""

    study: str
    column: str
    coverage: float
    mean_width: float
    score: float


@cache
def published_intervals(folder: Path, column: str) -> list[PublishedIntervals]:
    """Of each sweep, every network left out in turn."""
    points, found = published_points(folder), []
    for study in points["study"].unique(maintain_order=True):
        y, predicted = left_out(points, study, column)
        found.append(
            PublishedIntervals(
                study,
                column,
                float(np.mean((predicted.lower <= y) & (y <= predicted.upper))),
                float(np.mean(predicted.upper - predicted.lower)),
                float(np.mean(interval_score(y, predicted.lower, predicted.upper))),
            )
        )
    return found


def published_interval_rows(folder: Path) -> Rows:
    """A row for each sweep and the mean: coverage, width and score by column."""
    found = [published_intervals(folder, column) for column in PUBLISHED_COLUMNS]
    rows: Rows = []
    for sweep in zip(*found, strict=True):
        rows.append((sweep[0].study, *_interval_cells(sweep)))
    means = [
        PublishedIntervals(
            "mean", sweeps[0].column, *(
                float(np.mean([getattr(one, name) for one in sweeps]))
                for name in ("coverage", "mean_width", "score")
            ),
        )
        for sweeps in found
    ]  # fmt: skip
    return [*rows, ("mean", *_interval_cells(means))]


def _interval_cells(sweep: Sequence[PublishedIntervals]) -> list[str]:
    return [
        cell
        for one in sweep
        for cell in (f"{one.coverage:.1%}", f"{one.mean_width:.3f}", f"{one.score:.3f}")
    ]
