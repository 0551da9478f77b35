"""The tables of docs/explanation/results.md: the study's figures and the original study's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from scipy.stats import spearmanr

from ptqdb.database import query, read_view
from ptqdb.defaults import PREDICTION_VIEW
from ptqdb.fitting.cross_validation import HeldOut
from ptqdb.fitting.predicted_losses import predicted_losses
from ptqdb.fitting.view_fit import ALL, GroupFit, fit_view_frame, view_points
from ptqdb.networks.reference import REFERENCE_NETWORKS

DOCS = Path(__file__).parent
DEGREES = {2: "rational2", 3: "rational3", 4: "rational4"}
SHARES = ("param", "flops", "flops_log", "flops_cuberoot", "flops_sqrt", "flops_depth")
COMBINATIONS = ("l2", "fakefreeze", "fakefreeze_nodiv", "fakefreeze_weightratio")
STUDY_VIEWS = tuple(f"{combination}_{share}" for combination in COMBINATIONS for share in SHARES)
PER_NETWORK_VIEWS = ("l2_param", "l2_flops", "fakefreeze_param", "fakefreeze_flops",
                     "fakefreeze_nodiv_flops")  # fmt: skip
NEW_VIEWS = (
    *("fakefreeze_flops", "fakefreeze_flops_log", "fakefreeze_flops_depth", "l2_flops_sqrt"),
    *("variant('l2', share := 'flops', mac_weight := 'depth')",),
    *("variant(measure := 'hellinger', share := 'flops')",),
    *("variant(measure := 'wasserstein', share := 'flops')",),
    *("variant(measure := 'js_softmax', share := 'flops', mac_weight := 'depth')",),
    *("nsr_flops", "nsr_flops_rootdepth", "nsr_layer_rootdepth", "nsr_layer_depth"),
    *("channelnsr_layer_rootdepth", "channelnsr_layer_depth", "fakefreeze_flops_rootfanin"),
    *("nsr_layer_rootdepth_rootfanin", "channelnsr_layer_rootdepth_rootfanin"),
    *("channelnsr_layer_fanin", PREDICTION_VIEW),
    *("baseline_nsr", "baseline_bits"),
)
PLAIN = {"AlexNet", "AlexNet_BN", "VGG_16", "VGG_19"}
TRANSFER_VIEWS = (
    *(PREDICTION_VIEW, "channelnsr_layer_rootdepth_rootfanin", "channelnsr_layer_fanin"),
    *("nsr_layer_rootdepth", "fakefreeze_flops", "baseline_nsr", "baseline_bits"),
)
# Shares of layers, with their weights by MACs: for the combinations of weight and bias.
BIAS_SHARES = {
    "param": ("param", "none"),
    "flops": ("flops", "none"),
    "flops_log": ("flops", "log"),
    "flops_cuberoot": ("flops", "cuberoot"),
}
# Differences of R² that are none.
TIE = 0.0005
# Accuracies on the test split that others reached with full training, as percentages.
REACHED_BY_OTHERS = {
    "AlexNet": 88.6,
    "AlexNet_BN": 90.1,
    "VGG_16": 93.1,
    "VGG_19": 93.0,
    "Inception_BN": 94.8,
    "MobileNetV2": 90.3,
    "ResNet_18": 94.3,
    "ResNet_50": 94.6,
    "ResNet_152": 94.4,
}

Rows = list[tuple[str, ...]]


class Study:
    """A database and what was fitted over its views, each once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self.connection = connection
        self._fits: dict[tuple[str, str, str | None], dict[str, GroupFit]] = {}

    @property
    def networks(self) -> list[str]:
        """Their names, as collected."""
        names = query(self.connection, "select name from network order by network_id")
        return names["name"].to_list()

    def r_squared(self, view: str, curve: str = "rational2", group: str = ALL) -> float:
        """Of the pool or of one network; NaN where nothing could be fitted."""
        key = view, curve, None if group == ALL else "network"
        if key not in self._fits:
            frame = read_view(self.connection, view)
            found = fit_view_frame(frame, view=view, curve=curve, by=key[2], leave_out_by=None)
            self._fits[key] = {fit.group: fit for fit in found}
        r_squared = self._fits[key][group].r_squared
        return float("nan") if r_squared is None else r_squared

    @property
    def has_trained_tensors(self) -> bool:
        """Whether every network's tensors are measured as trained, too."""
        known = "select coalesce(bool_and(is_folded is not null), false) as known from layer"
        return bool(query(self.connection, known).item())

    def held_out(self, view: str, unit: str) -> GroupFit:
        """The pool's fit, with what each unit's own points are worth left out."""
        frame = read_view(self.connection, view)
        return fit_view_frame(frame, view=view, curve="isotonic", by=None, leave_out_by=unit)[0]


# --- what was collected ------------------------------------------------------------------------


def collected_rows(study: Study, logs: Path) -> Rows:
    """Each reference network: what it is, how it was trained, or that it is not collected yet.

    Parameters
    ----------
    logs
        Folder of the trainings' logs, ``NAME.log.parquet``.
    """
    overview = query(
        study.connection,
        "select n.name, n.params, n.macs, n.quantized_layer_count as layers, "
        "count(*) filter (where e.scheme_id in (select scheme_id from chosen_scheme(null))) "
        "as cells, "
        "max(e.correct_top1 / e.image_count) filter (where e.number_format_id is null) as accuracy "
        "from network as n join evaluation as e using (network_id) group by all",
    )
    found = {row["name"]: row for row in overview.iter_rows(named=True)}
    rows = []
    for name in REFERENCE_NETWORKS:
        others = f"{REACHED_BY_OTHERS[name]:.1f}"
        if name not in found:
            rows.append((name, *[""] * 4, others, "", "not yet collected"))
            continue
        row = found[name]
        log = pl.read_parquet(logs / f"{name}.log.parquet")
        rows.append(
            (
                name,
                str(row["layers"]),
                f"{row['params'] / 1e6:.2f} M",
                f"{row['macs'] / 1e6:.0f} M",
                f"{row['accuracy']:.2%}",
                others,
                f"{log['epoch'].max()}, {float(log['elapsed_s'].to_numpy().max()) / 60:.0f} min",
                f"{row['cells']} cells",
            )
        )
    return rows


# --- the study's table -------------------------------------------------------------------------


def original_figures() -> dict[tuple[str, int | None], float]:
    """What the original study printed: pooled R² by view and degree; None: degree not stated."""
    rows = pl.read_csv(DOCS / "original_study.csv").iter_rows()
    return {(view, degree): r_squared for view, degree, r_squared in rows}


def study_rows(studies: Sequence[Study]) -> Rows:
    """Pooled R² of each view by degree: the original study's, then each study's."""
    printed = original_figures()
    rows = []
    for view in STUDY_VIEWS:
        untold = printed.get((view, None))
        cells = [_cell(printed.get((view, degree))) for degree in DEGREES]
        if untold is not None:
            weight = "log or cube root, " if view.endswith("_log") else ""
            cells[0] = f"{_cell(untold)} ({weight}degree not stated)"
        for study in studies:
            cells += [_cell(study.r_squared(view, curve)) for curve in DEGREES.values()]
        rows.append((f"`{view}`", *cells))
    return rows


def network_rows(study: Study) -> Rows:
    """R² of degree 2 on each network alone."""
    return [
        (name, *(_cell(study.r_squared(view, group=name)) for view in PER_NETWORK_VIEWS))
        for name in study.networks
    ]


# --- its findings ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A study's figures for a finding.

    Attributes
    ----------
    figures
        The figures that decide, for people.
    agreeing, opposing
        In how many comparisons the finding holds, and in how many its opposite; the others
        differ by no more than `TIE`.
    compared
        How many there are.
    """

    figures: str
    agreeing: int
    opposing: int
    compared: int

    @classmethod
    def of(cls, figures: str, differences: Sequence[float]) -> "Found":
        """Differences that are positive where the finding holds."""
        agreeing = sum(value > TIE for value in differences)
        opposing = sum(value < -TIE for value in differences)
        return cls(figures, agreeing, opposing, len(differences))

    @property
    def verdict(self) -> str:
        """One or two words."""
        if not self.compared:
            return "cannot be decided"
        if self.agreeing == self.compared:
            return "holds"
        if not self.agreeing:
            return "does not hold" if self.opposing else "no difference"
        return f"in {self.agreeing} of {self.compared}"


def _greater(study: Study, pairs: Mapping[str, str]) -> Found:
    """Whether each view's pooled R² of degree 2 exceeds the other's."""
    figures, differences = [], []
    for greater, smaller in pairs.items():
        values = study.r_squared(greater), study.r_squared(smaller)
        differences.append(values[0] - values[1])
        figures.append(f"`{greater}` {values[0]:.3f}, `{smaller}` {values[1]:.3f}")
    return Found.of("; ".join(figures), differences)


def _plain_networks_prefer_l2(study: Study) -> Found:
    names = [name for name in study.networks if name in PLAIN]
    return _prefer(study, names, "l2_flops", "fakefreeze_flops")


def _branched_and_pool_prefer_fakefreeze(study: Study) -> Found:
    names = [*(name for name in study.networks if name not in PLAIN), ALL]
    return _prefer(study, names, "fakefreeze_flops", "l2_flops")


def _prefer(study: Study, groups: Sequence[str], better: str, worse: str) -> Found:
    found = [(study.r_squared(better, group=g), study.r_squared(worse, group=g)) for g in groups]
    figures = (f"{g} {a:.3f} against {b:.3f}" for g, (a, b) in zip(groups, found, strict=True))
    return Found.of("; ".join(figures), [a - b for a, b in found])


def _macs_break_earlier(study: Study) -> Found:
    path = DOCS / "queries" / "10-where-networks-break.sql"
    broken = query(study.connection, path.read_text(encoding="utf-8")).drop_nulls("tolerated")
    if broken.height < 3:
        return Found("fewer than three networks: too few to rank", 0, 0, 0)
    rank = float(spearmanr(broken["mmac"], broken["tolerated"]).statistic)
    figures = f"rank correlation of MACs and the tolerated divergence: {rank:.2f}"
    return Found.of(f"{figures}, {broken.height} networks", [-rank])


def _ratio_hides_the_bias(study: Study) -> Found:
    share = query(
        study.connection,
        "select median(weights / elements) as share from (select layer_id, "
        "sum(element_count) filter (where role = 'weight') as weights, "
        "sum(element_count) as elements from tensor where role in ('weight', 'bias') "
        "group by layer_id having count(*) = 2)",
    ).item()
    told = _greater(study, {"fakefreeze_flops": "fakefreeze_weightratio_flops"})
    more = f"; a layer's weight has {share:.1%} of its elements (median)"
    return replace(told, figures=told.figures + more)


def bias_view(combine: str, share: str, tensors: str) -> str:
    """The call for a combination of weight and bias, a share of `BIAS_SHARES`, and tensors."""
    layer_share, mac_weight = BIAS_SHARES[share]
    return (
        f"variant(combine := '{combine}', share := '{layer_share}', "
        f"mac_weight := '{mac_weight}', tensors := '{tensors}')"
    )


def _bias_counts_as_much(study: Study) -> Found:
    """On the tensors as trained: where each layer has a bias, 1 : 1 is twice 0.5 : 0.5."""
    if not study.has_trained_tensors:
        return Found("the tensors as trained are not measured", 0, 0, 0)
    figures, differences = [], []
    for share in BIAS_SHARES:
        whole, half = (
            study.r_squared(bias_view(combine, share, "trained")) for combine in ("nodiv", "half")
        )
        differences.append(whole - half)
        figures.append(f"`{share}` {whole:.3f} against {half:.3f}")
    return Found.of(f"as trained, 1 : 1 against 0.5 : 0.5: {'; '.join(figures)}", differences)


def _pot_crowds_where_flat(study: Study) -> Found:
    """By the noise, for at 63 bins POT_4 and POT_8 fill the same ones."""
    gains = query(
        study.connection,
        "select s.kurtosis, 1 - min(q.squared_error_sum) / max(q.squared_error_sum) as gain "
        "from quantized_tensor as q join number_format as f using (number_format_id) "
        "join tensor as t using (tensor_id) join layer as l using (layer_id) "
        "join network as n using (network_id) "
        "join (select distinct network, layer, kurtosis from tensor_shape where role = 'weight') "
        "as s on s.network = n.name and s.layer = l.name "
        "where f.name in ('POT_4', 'POT_8') and t.role = 'weight' group by t.tensor_id, s.kurtosis",
    ).drop_nulls()
    rank = float(spearmanr(gains["kurtosis"], gains["gain"]).statistic)
    figures = (
        "rank correlation of a weight's kurtosis and the share of the noise that POT_8 saves on "
        f"POT_4: {rank:.2f}, {gains.height} weights; median saving {gains['gain'].median():.1%}"
    )
    return Found.of(figures, [rank])


def _loss_saturates(study: Study) -> Found:
    rows = read_view(study.connection, "fakefreeze_flops")
    worst = rows.group_by("network").agg(
        pl.col("accuracy_loss").max(),
        ((pl.col("float_accuracy") - pl.col("chance_accuracy")) / pl.col("float_accuracy"))
        .first()
        .alias("chance"),
        pl.col("saturated").sum(),
    )
    near = (worst["accuracy_loss"] - worst["chance"]).abs().to_numpy()
    figures = f"{worst['saturated'].sum()} of {rows.height} points at chance; largest losses"
    return Found.of(f"{figures} at most {near.max():.3f} from chance's", 0.02 - near)


FINDINGS: dict[str, Callable[[Study], Found]] = {
    "L2 is better for single plain networks": _plain_networks_prefer_l2,
    "fakefreeze is better for branched networks and for the pool": (
        _branched_and_pool_prefer_fakefreeze
    ),
    "Networks of many MACs lose accuracy at smaller divergences": _macs_break_earlier,
    "Log and cube root of the MACs help `flops`": lambda study: _greater(
        study,
        {
            "fakefreeze_flops_log": "fakefreeze_flops",
            "fakefreeze_flops_cuberoot": "fakefreeze_flops",
        },
    ),
    "Log and cube root of the MACs hurt `param`": lambda study: _greater(
        study,
        {"fakefreeze_param": "fakefreeze_param_log", "fakefreeze_nodiv_param":
         "fakefreeze_nodiv_param_cuberoot"},
    ),
    "The square root of the MACs helps L2": lambda study: _greater(
        study, {"l2_flops_sqrt": "l2_flops"}
    ),
    "Weight and bias 1 : 1 helps": _bias_counts_as_much,
    "Weighting by element count does not help: it hides the bias": _ratio_hides_the_bias,
    "POT crowds where distributions are flat": _pot_crowds_where_flat,
    "The loss saturates at chance": _loss_saturates,
}  # fmt: skip


def finding_rows(studies: Sequence[Study]) -> Rows:
    """Each finding, and what each study says of it."""
    rows = []
    for text, told in FINDINGS.items():
        found = [told(study) for study in studies]
        cells = [cell for one in found for cell in (one.verdict, one.figures)]
        rows.append((text, *cells))
    return rows


# --- weight and bias ---------------------------------------------------------------------------


def bias_rows(studies: Sequence[Study]) -> Rows:
    """R² of degree 2 by share, with weight and bias 0.5 : 0.5 and 1 : 1.

    The original study's, then for each study those of the tensors as they run and as trained.
    """
    printed = original_figures()
    rows = []
    for share in BIAS_SHARES:
        names = (f"fakefreeze_{share}", f"fakefreeze_nodiv_{share}")
        cells = [_cell(printed.get((name, 2))) for name in names]
        for study in studies:
            cells += [_cell(study.r_squared(name)) for name in names]
            for combine in ("half", "nodiv"):
                view = bias_view(combine, share, "trained")
                known = study.has_trained_tensors
                cells.append(_cell(study.r_squared(view)) if known else "")
        rows.append((f"`{share}`", *cells))
    return rows


# --- what is new -------------------------------------------------------------------------------


def new_rows(study: Study) -> Rows:
    """Each view with an isotonic curve: R², and held out by network and by architecture."""
    rows = []
    for view in NEW_VIEWS:
        network, architecture = (study.held_out(view, unit) for unit in ("network", "architecture"))
        rows.append(
            (
                f"`{view}`",
                _cell(study.r_squared(view)),
                _cell(network.r_squared),
                _cell(network.held_out_r_squared),
                _cell(architecture.held_out_r_squared),
            )
        )
    return rows


def transfer_rows(full: Study, embedded: Study) -> Rows:
    """Each network of the full study, predicted from the embedded study alone, by view.

    Near-duplicate formats count as one.
    """
    rows = []
    for view in TRANSFER_VIEWS:
        reference = read_view(embedded.connection, view)
        for name in full.networks:
            measured = read_view(full.connection, view).filter(pl.col("network") == name)
            found = predicted_losses(measured, reference, view=view).rows
            loss = measured["accuracy_loss"].cast(pl.Float64).to_numpy()
            predicted, lower, upper = (
                np.array([getattr(row, part) for row in found])
                for part in ("predicted_loss", "lower", "upper")
            )
            weights = view_points(measured).weights
            judged = HeldOut(loss, predicted, weights)
            bias = np.average(predicted - loss, weights=weights)
            inside = np.average((lower <= loss) & (loss <= upper), weights=weights)
            rows.append(
                (
                    name,
                    f"`{view}`",
                    *(_cell(x) for x in (judged.r_squared, judged.rmse, judged.median_error)),
                    f"{bias:+.4f}",
                    f"{inside:.0%}",
                )
            )
    return rows


def _cell(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.4f}"
