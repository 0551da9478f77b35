"""The loss of a network in each number format, from its divergences and other networks' losses."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from ptqdb.curves import curve as curve_by_name
from ptqdb.defaults import COVERAGE, PREDICTION_CURVE
from ptqdb.errors import DataError
from ptqdb.fitting.intervals import LossPredictor
from ptqdb.fitting.view_fit import finite_rows, no_divergence_reason, unit_names, view_points

# A format with more bits must be predicted to lose less by more than this to be on the frontier:
# one image in ten thousand.
LEAST_GAIN = 1e-4
# All but this share of the reference's networks reach the coverage that is reported.
WORST_SHARE = 0.1
# One-sided 95 % quantile of a normal distribution, in standard errors.
NOISE_FACTOR = 1.645
FORMAT_FIELDS = ("number_format", "scheme", "family", "bits", "bits_per_weight", "ebits")
ANY = "any format"


@dataclass(frozen=True)
class FormatPrediction:
    """The predicted loss of a network in one number format.

    Losses are fractions of the float accuracy.

    Attributes
    ----------
    number_format
        The format's name, as `--number-formats` takes it.
    bits_per_weight
        Bits of the weights' codes, scales and zero points, per weight; None if unknown.
    divergence
        Divergence of this network in this format, from the view.
    predicted_loss, lower, upper
        The curve's value at the divergence, and the prediction interval.
    noise
        Largest loss that the reference's evaluations cannot distinguish from no loss: 1.645 times
        the median standard error of the loss in this format, or, if the reference does not have
        it, in any; None if it has no errors.
    within_noise
        Whether the predicted loss is below `noise`.
    outside_reference
        Whether the divergence is outside the reference's range (from 0, for a curve that is 0
        there); the prediction is then that at the nearest end.
        None without a curve.
    """

    number_format: str
    scheme: str
    family: str
    bits: int
    bits_per_weight: float | None
    ebits: int | None
    divergence: float
    predicted_loss: float
    lower: float
    upper: float
    noise: float | None
    within_noise: bool | None
    outside_reference: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Return what is printed."""
        return asdict(self)


@dataclass(frozen=True)
class Recommendation:
    """A number format, and whether it is recommended for a network.

    Attributes
    ----------
    prediction
        The prediction in this format.
    recommended
        Whether the upper bound (or, on request, the predicted loss) is within the largest
        acceptable loss.
    on_frontier
        Whether no format with as few bits per weight is predicted to lose less, and none with
        fewer is predicted to lose at most 1e-4 more.
    """

    prediction: FormatPrediction
    recommended: bool
    on_frontier: bool

    def as_dict(self) -> dict[str, Any]:
        """Return what is printed."""
        row = self.prediction.as_dict()
        return row | {"recommended": self.recommended, "on_frontier": self.on_frontier}


@dataclass(frozen=True)
class Predictions:
    """The predictions for one network, and their reference.

    Attributes
    ----------
    rows
        One per number format, in the order of the view.
    network, view, curve
        Names of the predicted network, the view and the curve.
    reference
        The networks that the curve was fitted to.
    unit_coverages
        By left-out network (or architecture) of the reference: the share of its formats inside
        such intervals, a fraction. For a single network it can differ much from the nominal
        coverage, because its formats lie inside or outside together.
    remarks
        Remarks for the user.
    """

    rows: tuple[FormatPrediction, ...]
    network: str
    view: str
    curve: str
    reference: tuple[str, ...]
    unit_coverages: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def recommend(self, max_loss: float, *, expected: bool = False) -> "list[Recommendation]":
        """Return the formats within a loss, fewest bits per weight first, then the others.

        Parameters
        ----------
        max_loss
            Largest acceptable loss, a fraction of the float accuracy.
        expected
            Compare `max_loss` with the predicted loss, not the upper bound of the interval.
        """

        def bound(row: FormatPrediction) -> float:
            return row.predicted_loss if expected else row.upper

        best, frontier = float("inf"), set()
        for row in sorted(self.rows, key=lambda row: (_width(row), bound(row))):
            if bound(row) < best - LEAST_GAIN:
                best = bound(row)
                frontier.add(row.number_format)
        found = [
            Recommendation(row, bound(row) <= max_loss, row.number_format in frontier)
            for row in self.rows
        ]
        return sorted(
            found,
            key=lambda one: (
                not one.recommended,
                _width(one.prediction),
                bound(one.prediction),
            ),
        )


def _width(row: FormatPrediction) -> float:
    """Bits per weight, for sorting; those of a code where unknown."""
    return row.bits if row.bits_per_weight is None else round(row.bits_per_weight, 3)


def predicted_losses(
    measured: pl.DataFrame,
    reference: pl.DataFrame,
    *,
    view: str,
    curve: str = PREDICTION_CURVE,
    leave_out: str = "network",
    coverage: float = COVERAGE,
    float_accuracy: float | None = None,
) -> Predictions:
    """Predict the losses of the rows of a view from the rows of other networks.

    Parameters
    ----------
    measured
        One network's rows of the view; their accuracies are not used.
    reference
        Other networks' rows of the same view, with their losses.
    view, curve, leave_out, coverage, float_accuracy
        As in `ptqdb.study.Study.predict`.

    Raises
    ------
    UsageError
        No such curve.
    DataError
        The reference is too small to fit the curve, or no row has a divergence.
    """
    chosen, reference = curve_by_name(curve), finite_rows(reference)
    measured = measured.filter(pl.col("divergence").is_not_null())
    if "breakpoint" in reference.columns and reference.height:
        # use the breakpoint of the reference: where this network collapses is unknown
        cap = pl.lit(reference["breakpoint"].max(), dtype=pl.Float64)
        measured = measured.with_columns(pl.min_horizontal("divergence", cap))
    if not measured.height:
        reason = no_divergence_reason(view) or "choose another view"
        raise DataError(f"expected divergences of the network in {view}, found none: {reason}")
    points = view_points(reference)
    predictor = LossPredictor.of(points, chosen, unit_names(reference, leave_out))
    x, remarks, chance_loss = measured["divergence"].to_numpy(), [], None
    if predictor.fit.function.uses_chance_loss:
        accuracy = float_accuracy
        if accuracy is None:
            accuracy = float(reference["float_accuracy"].cast(pl.Float64).to_numpy().mean())
            remarks.append(
                f"{curve} saturates at chance: assuming a float accuracy of {accuracy:.4f}, "
                "the mean of the reference; set --float-accuracy to change it"
            )
        chance_loss = (accuracy - measured["chance_accuracy"].to_numpy()) / accuracy
    found = predictor.predict(x, chance_loss, coverage=coverage)
    low, high = predictor.fit.domain
    noise = _noise(reference)
    rows = []
    for place, row in enumerate(measured.rows(named=True)):
        loss, known = float(found.loss[place]), noise.get(row["number_format"], noise.get(ANY))
        rows.append(
            FormatPrediction(
                **{name: row[name] for name in FORMAT_FIELDS},
                divergence=row["divergence"],
                predicted_loss=loss,
                lower=float(found.lower[place]),
                upper=float(found.upper[place]),
                noise=known,
                within_noise=None if known is None else loss < known,
                outside_reference=not low <= row["divergence"] <= high,
            )
        )
    coverages = predictor.unit_coverages(coverage)
    remarks.append(coverage_remark(coverages, coverage, leave_out))
    return Predictions(
        tuple(rows),
        network=measured["network"][0],
        view=view,
        curve=chosen.name,
        reference=tuple(reference["network"].unique().sort().to_list()),
        unit_coverages=coverages,
        remarks=tuple(remarks),
    )


def coverage_remark(coverages: Mapping[str, float], coverage: float, leave_out: str) -> str:
    """Say what nearly all left-out networks reached: a mean would hide the worst of them.

    Parameters
    ----------
    coverages
        By unit, fractions; at least one.
    coverage
        The nominal coverage, a fraction.
    leave_out
        The kind of unit, ``network`` or ``architecture``.

    Examples
    --------
    >>> coverage_remark({"A": 0.75, "B": 0.9, "C": 1.0}, 0.9, "network")
    'intervals of 90 %: of 3 networks left out, all had at least 75 % of their formats inside'
    """
    worst = int(WORST_SHARE * len(coverages))
    least = sorted(coverages.values())[worst]
    reached = f"{len(coverages) - worst}" if worst else "all"
    # Rounded down, so that the sentence is true.
    return (
        f"intervals of {100 * coverage:g} %: of {len(coverages)} {leave_out}s left out, "
        f"{reached} had at least {int(100 * least + 1e-9)} % of their formats inside"
    )


def _noise(reference: pl.DataFrame) -> dict[str, float]:
    """By number format, and for any: the largest loss that cannot be told from no loss."""
    errors = reference.select("number_format", "accuracy_loss_se")
    both = pl.concat([errors, errors.with_columns(number_format=pl.lit(ANY))])
    medians = both.group_by("number_format").agg(pl.col("accuracy_loss_se").median())
    return {name: NOISE_FACTOR * se for name, se in medians.iter_rows() if se is not None}
