"""Predicts a network's loss in each number format from its divergence."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ptqdb.curves import curve as curve_by_name
from ptqdb.database import (
    needs_evaluations,
    read_view,
    uses_probe,
    uses_weights_alone,
    with_scope,
)
from ptqdb.database.variants import variant_words
from ptqdb.defaults import (
    COVERAGE,
    DEFAULT_PROBE_COUNT,
    PREDICTION_CURVE,
    PREDICTION_VIEW,
    PROBE_VIEW,
)
from ptqdb.errors import UsageError
from ptqdb.fitting.intervals import Prediction
from ptqdb.fitting.predicted_losses import (
    FORMAT_FIELDS,
    FormatPrediction,
    Predictions,
    predicted_losses,
)
from ptqdb.fitting.probing import ProbeSample, as_it_stands, widened
from ptqdb.fitting.view_fit import finite_rows, unit_names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from ptqdb.collection.unevaluated import UnevaluatedNetwork


def predict(
    connection: "DuckDBPyConnection",
    network: "UnevaluatedNetwork",
    *,
    view: str,
    curve: str = PREDICTION_CURVE,
    leave_out: str = "network",
    coverage: float = COVERAGE,
    float_accuracy: float | None = None,
) -> Predictions:
    """Predict a network's losses from the evaluated networks of a database.

    The network itself is left out if the database has it, under any name.

    Parameters
    ----------
    network
        With rows of the same view.
    view, curve, leave_out, coverage, float_accuracy
        As in `ptqdb.study.Study.predict`.

    Raises
    ------
    UsageError
        No such view or curve.
    DataError
        The reference is too small to fit the curve, or no row has a divergence.
    """
    rows = connection.execute(
        "select name from network where checkpoint_sha256 = ? order by name",
        [network.checkpoint_sha256],
    ).fetchall()
    twins = [name for (name,) in rows]
    reference = read_view(connection, view).filter(~pl.col("network").is_in(twins))
    if network.probes is not None:
        found = probed_losses(
            network.rows,
            network.probes,
            reference,
            _probe_image_count(connection, reference),
            view=view,
            curve=curve,
            leave_out=leave_out,
            coverage=coverage,
            float_accuracy=float_accuracy,
        )
    else:
        found = by_what_is_quantized(
            network.rows,
            network.of_weights_alone if ignores_inputs(view) else frozenset(),
            reference,
            _of_weights_alone(connection, view, twins) if network.of_weights_alone else None,
            view=view,
            curve=curve,
            leave_out=leave_out,
            coverage=coverage,
            float_accuracy=float_accuracy,
        )
    remarks = [f"{name} is the same network: left out of the reference" for name in twins]
    return replace(
        found, network=network.name, remarks=(*remarks, *network.remarks, *found.remarks)
    )


def ignores_inputs(view: str) -> bool:
    """Whether a view's divergences are the same whether or not inputs are quantized."""
    return variant_words(view).get("tensors") in ("parameters", "trained") and not uses_probe(view)


def _of_weights_alone(
    connection: "DuckDBPyConnection", view: str, twins: Sequence[str]
) -> pl.DataFrame | None:
    """The view's rows with the losses of quantized weights alone, if two networks have them."""
    if not ignores_inputs(view):
        return None
    rows = read_view(connection, with_scope(view, "weight"))
    rows = finite_rows(rows.filter(~pl.col("network").is_in(twins)))
    return rows if rows["network"].n_unique() > 1 else None


def by_what_is_quantized(
    measured: pl.DataFrame,
    of_weights_alone: Collection[str],
    reference: pl.DataFrame,
    reference_of_weights: pl.DataFrame | None,
    **options: Any,
) -> Predictions:
    """Predict as `predicted_losses`; formats of weights alone from losses of weights alone.

    Parameters
    ----------
    of_weights_alone
        Names of the formats that keep inputs in floats.
    reference_of_weights
        Other networks' rows of the same view with the losses of weights quantized alone (scope
        ``weight``); None if they have not been evaluated so: then such formats are predicted like
        all others, and lose less.
    """
    is_alone = pl.col("number_format").is_in(list(of_weights_alone))
    has_divergence = pl.col("divergence").is_not_null()
    alone, others = (
        measured.filter(condition, has_divergence) for condition in (is_alone, ~is_alone)
    )
    if reference_of_weights is None or alone.is_empty():
        found = predicted_losses(measured, reference, **options)
        if alone.is_empty():
            return found
        remark = (
            "the reference has no losses of weights quantized alone, so formats that keep inputs "
            "in floats are predicted to lose more than they do; `ptqdb collect --scopes weight` "
            "adds them"
        )
        return replace(found, remarks=(*found.remarks, remark))
    of_alone = predicted_losses(alone, reference_of_weights, **options)
    whose = "formats that keep inputs in floats, from the losses of weights quantized alone"
    remarks = tuple(f"{whose}: {remark}" for remark in of_alone.remarks)
    if others.is_empty():
        return replace(of_alone, remarks=remarks)
    found = predicted_losses(others, reference, **options)
    by_name = {row.number_format: row for row in (*of_alone.rows, *found.rows)}
    names = measured.filter(has_divergence)["number_format"].to_list()
    rows = tuple(by_name[name] for name in names)
    return replace(found, rows=rows, remarks=(*found.remarks, *remarks))


def probed_losses(
    measured: pl.DataFrame,
    probes: pl.DataFrame,
    reference: pl.DataFrame,
    reference_image_count: int,
    *,
    view: str,
    coverage: float = COVERAGE,
    **options: Any,
) -> Predictions:
    """Predict the losses of a probed network, from the probes of other networks.

    If fewer than two networks of the reference have probes, ``probe_soft`` itself is the
    prediction, and the interval is that of its sampling error.

    Parameters
    ----------
    measured, reference, view, coverage, options
        As in `predicted_losses`.
    probes
        The images of the network's probes, as in ``UnevaluatedNetwork``.
    reference_image_count
        Number of images of the reference's probes.
    """
    measured = measured.filter(pl.col("divergence").is_not_null())
    images = measured.join(
        probes.select("number_format", "image_count", "changed_count"),
        on="number_format",
        how="left",
        maintain_order="left",
    )
    sample = ProbeSample(images["image_count"].to_numpy(), images["changed_count"].to_numpy())
    units = unit_names(finite_rows(reference), options.get("leave_out", "network"))
    if view == PROBE_VIEW and len(set(units)) < 2:
        return _as_it_stands(measured, sample, reference, coverage)
    found = predicted_losses(measured, reference, view=view, coverage=coverage, **options)
    around = Prediction(
        *(
            np.array([getattr(row, name) for row in found.rows])
            for name in ("predicted_loss", "lower", "upper")
        )
    )
    around = widened(around, sample, reference_image_count, coverage)
    rows = tuple(
        replace(row, lower=float(low), upper=float(high))
        for row, low, high in zip(found.rows, around.lower, around.upper, strict=True)
    )
    return replace(found, rows=rows)


def _as_it_stands(
    measured: pl.DataFrame, sample: ProbeSample, reference: pl.DataFrame, coverage: float
) -> Predictions:
    found = as_it_stands(measured["divergence"].to_numpy(), sample, coverage)
    rows = tuple(
        FormatPrediction(
            **{name: row[name] for name in FORMAT_FIELDS},
            divergence=row["divergence"],
            predicted_loss=float(found.loss[place]),
            lower=float(found.lower[place]),
            upper=float(found.upper[place]),
            noise=None,
            within_noise=None,
            outside_reference=None,
        )
        for place, row in enumerate(measured.rows(named=True))
    )
    remark = (
        "fewer than two networks of the reference have probes: the loss is soft agreement as it "
        "stands, its interval the sampling error of the images; `ptqdb collect --probe "
        f"{DEFAULT_PROBE_COUNT}` adds probes"
    )
    names = tuple(reference["network"].unique().sort().to_list())
    return Predictions(rows, measured["network"][0], PROBE_VIEW, "none", names, remarks=(remark,))


def _probe_image_count(connection: "DuckDBPyConnection", reference: pl.DataFrame) -> int:
    """The median number of images of the probes of these networks; 1 without any."""
    row = connection.execute(
        "select median(image_count) from probe join network using (network_id) "
        "where list_contains(?, network.name)",
        [reference["network"].unique().to_list()],
    ).fetchone()
    return int(row[0]) if row and row[0] else 1


def check_view(
    connection: "DuckDBPyConnection", view: str, curve: str, *, has_images: bool, probe: int = 0
) -> None:
    """Refuse an unknown view or curve, or a view that has no row for a new network.

    Parameters
    ----------
    probe
        Number of images of the network's probes; 0: none.

    Raises
    ------
    UsageError
        The message suggests a view or curve.
    """
    curve_by_name(curve)
    read_view(connection, view, "false")
    if probe < 0:
        raise UsageError(f"--probe: expected a number of images, found {probe}")
    if probe and not uses_probe(view):
        raise UsageError(
            f"--view: {view} is not of a probe; leave out --probe, or choose a view of probes, "
            f"such as {PROBE_VIEW}"
        )
    if uses_probe(view) and not probe:
        raise UsageError(
            f"--view: {view} needs a run of the quantized network: give --probe "
            f"{DEFAULT_PROBE_COUNT}, or choose another view, such as {PREDICTION_VIEW}"
        )
    if probe and not has_images:
        raise UsageError("--probe: the images come from calibration: give --calibration-dataset")
    if needs_evaluations(view):
        raise UsageError(
            f"--view: {view} is corrected by sensitivity, which needs evaluations of the quantized "
            "network; choose a view without sensitivity"
        )
    if not has_images and not uses_weights_alone(view):
        raise UsageError(
            f"--view: {view} needs scales of the inputs, which come from calibration: give "
            "--calibration-dataset IMAGES, or choose a view of the weights only, such as "
            f"{PREDICTION_VIEW}"
        )
