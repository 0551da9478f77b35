"""Predictions of a network that nobody evaluated, and what is recommended of them."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from running import Run, runner

import ptqdb
from ptqdb.curves import curve
from ptqdb.defaults import PREDICTION_VIEW
from ptqdb.errors import DataError, UsageError
from ptqdb.fitting.intervals import LossPredictor
from ptqdb.fitting.predicted_losses import (
    FormatPrediction,
    Predictions,
    coverage_remark,
    predicted_losses,
)
from ptqdb.fitting.prediction import by_what_is_quantized
from ptqdb.fitting.view_fit import finite_rows, group_names, view_points
from ptqdb.networks.embedded import embedded_folder
from ptqdb.quantization.layers import QuantizedLayer

VIEW = "fakefreeze_flops"


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """The embedded study's rows of a view."""
    with ptqdb.open() as study:
        return study.view(VIEW)


def split(rows: pl.DataFrame, network: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rows.filter(network=network), rows.filter(pl.col("network") != network)


def predicted(rows: pl.DataFrame, network: str = "VGG_16", **options: Any) -> Predictions:
    own, others = split(rows, network)
    return predicted_losses(own, others, view=VIEW, **options)


# --- the predictions -------------------------------------------------------------------------


def test_losses_are_those_of_the_predictor(rows: pl.DataFrame) -> None:
    own, others = split(rows, "VGG_16")
    found = predicted(rows, curve="hill")
    points = view_points(finite_rows(others))
    predictor = LossPredictor.of(points, curve("hill"), group_names(others["network"]))
    expected = predictor.predict(own["divergence"].to_numpy())
    assert [row.number_format for row in found.rows] == own["number_format"].to_list()
    np.testing.assert_array_equal([row.predicted_loss for row in found.rows], expected.loss)
    np.testing.assert_array_equal([row.lower for row in found.rows], expected.lower)
    np.testing.assert_array_equal([row.upper for row in found.rows], expected.upper)
    assert found.reference == ("AlexNet", "AlexNet_BN", "Inception_BN", "VGG_19")


def test_its_own_accuracies_are_not_looked_at(rows: pl.DataFrame) -> None:
    own, others = split(rows, "VGG_16")
    unknown = own.with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name)
        for name in ("accuracy", "float_accuracy", "accuracy_loss", "accuracy_loss_se")
    )
    assert predicted_losses(unknown, others, view=VIEW) == predicted(rows)


def test_noise_is_that_of_the_references_own_evaluations(rows: pl.DataFrame) -> None:
    found = {row.number_format: row for row in predicted(rows).rows}
    _, others = split(rows, "VGG_16")
    for name in ("INT_8", "INT_4"):
        errors = others.filter(number_format=name)["accuracy_loss_se"].to_numpy()
        assert found[name].noise == pytest.approx(1.645 * float(np.median(errors)))
    assert found["INT_8"].within_noise
    assert not found["INT_4"].within_noise


def test_formats_that_the_reference_lacks(rows: pl.DataFrame) -> None:
    own, others = split(rows, "VGG_16")
    integers = others.filter(pl.col("family") == "INT")
    found = predicted_losses(own, integers, view=VIEW)
    by_name = {row.number_format: row for row in found.rows}
    of_any = 1.645 * float(np.median(integers["accuracy_loss_se"].to_numpy()))
    assert by_name["POT_4"].noise == pytest.approx(of_any)
    assert by_name["POT_4"].within_noise is (by_name["POT_4"].predicted_loss < of_any)


def test_formats_of_weights_alone_have_a_curve_of_their_own(rows: pl.DataFrame) -> None:
    own, others = split(rows, "VGG_16")
    of_weights = others.with_columns(pl.col("accuracy_loss") / 2)
    alone = ["INT_4", "FLOAT_4_E2"]
    found = by_what_is_quantized(own, alone, others, of_weights, view=VIEW)
    expected = {row.number_format: row for row in predicted(rows).rows}
    halved = predicted_losses(own, of_weights, view=VIEW)
    expected |= {row.number_format: row for row in halved.rows if row.number_format in alone}
    assert [row.number_format for row in found.rows] == own["number_format"].to_list()
    assert list(found.rows) == [expected[row.number_format] for row in found.rows]
    # each curve says how well its own intervals held
    (coverage,) = halved.remarks
    assert found.remarks[0].startswith("intervals of 90 %")
    assert found.remarks[1].endswith(f"weights quantized alone: {coverage}")
    only = own.filter(pl.col("number_format").is_in(alone))
    assert by_what_is_quantized(only, alone, others, of_weights, view=VIEW).rows == tuple(
        row for row in found.rows if row.number_format in alone
    )


def test_without_losses_of_weights_alone_a_remark_says_so(rows: pl.DataFrame) -> None:
    own, others = split(rows, "VGG_16")
    found = by_what_is_quantized(own, ["INT_4"], others, None, view=VIEW)
    assert found.rows == predicted(rows).rows
    assert "`ptqdb collect --scopes weight` adds them" in found.remarks[-1]
    assert by_what_is_quantized(own, [], others, None, view=VIEW) == predicted(rows)


def test_divergences_past_the_references_are_marked(rows: pl.DataFrame) -> None:
    own, others = split(rows, "VGG_16")
    far = own.with_columns(divergence=pl.lit(50.0))
    found = predicted_losses(far, others, view=VIEW)
    assert all(row.outside_reference for row in found.rows)
    end = others["divergence"].max()
    at_end = predicted_losses(own.with_columns(divergence=pl.lit(end)), others, view=VIEW)
    assert not any(row.outside_reference for row in at_end.rows)
    # the nearest end's loss is taken
    assert found.rows[0].predicted_loss == at_end.rows[0].predicted_loss


def test_segmented_views_are_capped_at_the_references_breakpoint() -> None:
    with ptqdb.open() as study:
        rows = study.view("l2_flops_segmented")
    own, others = split(rows, "AlexNet")
    cap = float(others["breakpoint"].to_numpy().max())
    beyond = own.with_columns(divergence=pl.lit(cap * 2))
    found = predicted_losses(beyond, others, view="l2_flops_segmented")
    assert {row.divergence for row in found.rows} == {cap}


def test_curves_at_chance_ask_for_the_float_accuracy(rows: pl.DataFrame) -> None:
    mean = predicted(rows, curve="logistic")
    assert "assuming a float accuracy of 0.8" in mean.remarks[0]
    low = predicted(rows, curve="logistic", float_accuracy=0.2)
    assert len(low.remarks) == len(mean.remarks) - 1
    # of a fifth, half is chance: no more can be lost
    assert max(row.predicted_loss for row in low.rows) < 0.5
    assert max(row.predicted_loss for row in mean.rows) > 0.6


def test_what_nearly_all_left_out_networks_reached(rows: pl.DataFrame) -> None:
    found = predicted(rows, coverage=0.8)
    assert found.unit_coverages.keys() == set(found.reference)
    assert 0 < min(found.unit_coverages.values()) < max(found.unit_coverages.values()) <= 1
    least = int(100 * min(found.unit_coverages.values()))
    assert found.remarks == (
        f"intervals of 80 %: of 4 networks left out, all had at least {least} % of their formats "
        "inside",
    )
    # One in ten may have less.
    ten = {f"N{place}": place / 10 for place in range(10)}
    assert "of 10 networks left out, 9 had at least 10 %" in coverage_remark(ten, 0.9, "network")
    nineteen = {f"N{place:02d}": 0.299 if place > 1 else 0.0 for place in range(20)}
    said = coverage_remark(nineteen, 0.9, "architecture")
    assert "of 20 architectures left out, 18 had at least 29 %" in said


def test_nothing_to_predict(rows: pl.DataFrame) -> None:
    own, others = split(rows, "VGG_16")
    nothing = own.with_columns(divergence=pl.lit(None, dtype=pl.Float64))
    with pytest.raises(DataError, match="expected divergences of the network"):
        predicted_losses(nothing, others, view=VIEW)
    with pytest.raises(DataError, match="two or more reference networks"):
        predicted_losses(own, others.filter(network="VGG_19"), view=VIEW)


# --- what is recommended ---------------------------------------------------------------------


def one(name: str, bits: int, loss: float, upper: float) -> FormatPrediction:
    of_format = (name, "scheme", "INT", bits, bits + 0.25, None)
    return FormatPrediction(*of_format, 0.1, loss, 0.0, upper, 0.01, False, False)


PREDICTED = Predictions(
    (
        one("INT_8", 8, 0.001, 0.004),
        one("INT_6", 6, 0.004, 0.009),
        one("FLOAT_6_E2", 6, 0.002, 0.02),
        one("INT_4", 4, 0.3, 0.6),
        one("POT_7", 7, 0.4, 0.7),
    ),
    "N", VIEW, "hill", ("A", "B"),
)  # fmt: skip


def test_bits_per_weight_decide_and_those_of_codes_where_they_are_unknown() -> None:
    small, large = one("mxfp4", 4, 0.01, 0.02), one("nvfp4", 4, 0.001, 0.002)
    large = replace(large, bits_per_weight=4.5)
    own = replace(one("mine", 32, 0.0, 0.001), bits_per_weight=None)
    found = Predictions((own, large, small), "N", VIEW, "hill", ("A", "B")).recommend(0.05)
    assert [row.prediction.number_format for row in found] == ["mxfp4", "nvfp4", "mine"]
    assert [row.on_frontier for row in found] == [True, True, True]


def test_upper_bounds_within_the_loss_fewest_bits_first() -> None:
    found = PREDICTED.recommend(0.01)
    names = [row.prediction.number_format for row in found]
    assert names == ["INT_6", "INT_8", "INT_4", "FLOAT_6_E2", "POT_7"]
    assert [row.recommended for row in found] == [True, True, False, False, False]
    # FLOAT_6_E2 has as many bits as INT_6 and a higher bound; POT_7 is beaten by narrower ones
    frontier = {row.prediction.number_format for row in found if row.on_frontier}
    assert frontier == {"INT_4", "INT_6", "INT_8"}


def test_expected_losses_on_request() -> None:
    found = PREDICTED.recommend(0.01, expected=True)
    kept = [row.prediction.number_format for row in found if row.recommended]
    assert kept == ["FLOAT_6_E2", "INT_6", "INT_8"]
    frontier = {row.prediction.number_format for row in found if row.on_frontier}
    assert frontier == {"INT_4", "FLOAT_6_E2", "INT_8"}
    assert not any(row.recommended for row in PREDICTED.recommend(0.0))


# --- as a user -------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


FEW = ("--number-formats", "INT_3,INT_5,INT_8", "--curve", "hill")


def test_predict_runs_no_quantized_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a quantized layer was asked to compute with codes")

    monkeypatch.setattr(QuantizedLayer, "use_codes", refuse)
    result = run("predict", "--network", "AlexNet", "--calibration-dataset", embedded_folder(),
                 "--calibration", "16", "--format", "json", *FEW)  # fmt: skip
    assert result.code == 0, result.err
    rows = {row["number_format"]: row for row in json.loads(result.out)}
    assert list(rows) == ["INT_3", "INT_5", "INT_8"]
    assert rows["INT_3"]["predicted_loss"] > 0.5 > rows["INT_5"]["predicted_loss"]
    assert rows["INT_8"]["within_noise"] is True
    for row in rows.values():
        assert row["lower"] <= row["predicted_loss"] <= row["upper"]
    assert "AlexNet is the same network: left out of the reference" in result.err
    assert "fitted to 4 networks: AlexNet_BN, Inception_BN, VGG_16, VGG_19" in result.err


def test_predict_without_images_looks_at_the_weights(run: Run) -> None:
    result = run("predict", "--network", "VGG_16", "--format", "csv", *FEW)
    assert result.code == 0, result.err
    found = list(csv.DictReader(io.StringIO(result.out)))
    assert f"hill over {PREDICTION_VIEW}" in result.err
    assert "no images: only the weights are quantized" in result.err
    with ptqdb.open() as study:
        stored = study.view(PREDICTION_VIEW, "network = 'VGG_16'")
    for row in found:
        (expected,) = stored.filter(number_format=row["number_format"])["divergence"]
        assert float(row["divergence"]) == pytest.approx(expected, rel=1e-7)


def test_recommend_prints_the_fewest_bits_first(run: Run) -> None:
    options = ("--network", "AlexNet_BN", "--curve", "hill")
    result = run("recommend", *options, "--max-loss", "0.02", "--number-formats", "INT_*",
                 "--format", "csv")  # fmt: skip
    assert result.code == 0, result.err
    found = list(csv.DictReader(io.StringIO(result.out)))
    kept = [row for row in found if row["recommended"] == "true"]
    assert [int(row["bits"]) for row in kept] == sorted(int(row["bits"]) for row in kept)
    assert all(float(row["upper"]) <= 0.02 for row in kept)
    assert kept
    rest = [row for row in found if row["recommended"] == "false"]
    assert rest
    assert all(row["on_frontier"] == "true" for row in rest)
    none = run("recommend", *options, "--max-loss", "0", "--number-formats", "INT_2")
    assert none.code == 0
    assert "no format's upper bound is within 0" in none.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("--view", "fakefreeze_flops"),
            2,
            "give --calibration-dataset IMAGES, or choose a view",
        ),
        (("--view", "l2_flops_sensitivity"), 2, "choose a view without sensitivity"),
        (("--view", "no_such_view"), 2, "no view 'no_such_view'"),
        (("--curve", "hil"), 2, "choose one of hill"),
        (("--calibration-dataset", "missing"), 1, "missing"),
        (("--number-formats", "INT_99"), 2, "INT_99"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run("predict", "--network", "AlexNet", *arguments)
    assert (result.code, result.out) == (code, ""), result.err
    assert message in result.err
    assert "Traceback" not in result.err


def test_functions_of_the_library() -> None:
    network = ptqdb.network("VGG_19", checkpoint=embedded_folder() / "VGG_19.safetensors")
    with ptqdb.open() as study:
        found = study.predict(network, number_formats="INT_4,INT_8", curve="hill")
        assert [row.number_format for row in found.rows] == ["INT_4", "INT_8"]
        with pytest.raises(UsageError, match="no view"):
            study.predict(network, view="l2")
    assert [row.recommended for row in found.recommend(1.0)] == [True, True]
