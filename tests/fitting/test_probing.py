"""Predictions from probes: with a reference, without one, on fewer images; what is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from running import Run, runner
from small_networks import Database, pictures, three_layers

import ptqdb
from ptqdb.errors import DataError, UsageError
from ptqdb.fitting.intervals import Prediction
from ptqdb.fitting.predicted_losses import Predictions
from ptqdb.fitting.probing import ProbeSample, as_it_stands, widened

FORMATS = "INT_2,INT_3,INT_4,INT_5,INT_8"


def predicted(db: Database, **options: object) -> Predictions:
    source = ptqdb.network(three_layers(9).eval(), name="new", mean=[0.5], std=[0.25])
    images = pictures(40, "train")
    unlabelled = type(images)("toy", "train", images.images, None, ())
    study = ptqdb.open(db.path)
    return study.predict(source, unlabelled, number_formats=FORMATS, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Three networks without probes; tests only read it."""
    db = Database(empty_file, tmp_path_factory.mktemp("plain"))
    for seed in (1, 2, 3):
        db.collect(three_layers(seed), FORMATS, name=f"net{seed}", count=60, probe=0)
    return db


@pytest.fixture(scope="module")
def probed(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Three networks with probes on 8 images; tests only read it."""
    db = Database(empty_file, tmp_path_factory.mktemp("probed"))
    for seed in (1, 2, 3):
        db.collect(three_layers(seed), FORMATS, name=f"net{seed}", count=60)
    return db


# The sampling error, by hand.


def test_the_error_is_that_of_a_binomial_count() -> None:
    # 30 of 120 changed, at a loss of 0.2: 0.2 * sqrt(0.75 / (0.25 * 120)) = 0.2 * sqrt(0.025).
    # None or one changed of 120: 1.645 / 120. All changed: nothing is left to chance but that.
    sample = ProbeSample(np.full(4, 120), np.array([30, 0, 1, 120]))
    found = sample.error(np.array([0.2, 0.0, 0.004, 0.9]))
    least = 1.645 / 120
    assert found == pytest.approx([0.2 * 0.025**0.5, least, least, least])


def test_soft_agreement_as_it_stands() -> None:
    sample = ProbeSample(np.array([120, 120]), np.array([30, 0]))
    found = as_it_stands(np.array([0.2, 0.0]), sample, coverage=0.9)
    half = 1.6448536 * 0.2 * 0.025**0.5
    assert found.loss.tolist() == [0.2, 0.0]
    # Also below 0: a lossless format may be right in more images than the float network.
    assert found.lower == pytest.approx([0.2 - half, -1.6448536 * 1.645 / 120])
    assert found.upper == pytest.approx([0.2 + half, 1.6448536 * 1.645 / 120])


def test_fewer_images_than_the_reference_widen_the_interval() -> None:
    around = Prediction(np.array([0.2] * 3), np.array([0.17] * 3), np.array([0.24] * 3))
    sample = ProbeSample(np.array([120, 30, 240]), np.array([30, 8, 60]))
    found = widened(around, sample, 120)
    assert found.loss.tolist() == around.loss.tolist()
    # As many images or more: as it was. A quarter: three quarters of their variance are added.
    assert found.lower[[0, 2]] == pytest.approx([0.17, 0.17])
    assert found.upper[[0, 2]] == pytest.approx([0.24, 0.24])
    error = 0.2 * ((22 / 30) / (8 / 30 * 30)) ** 0.5
    added = 0.75 * (1.6448536 * error) ** 2
    assert found.lower[1] == pytest.approx(0.2 - (0.03**2 + added) ** 0.5)
    assert found.upper[1] == pytest.approx(0.2 + (0.04**2 + added) ** 0.5)


# With and without a reference.


def test_without_probes_in_the_reference(plain: Database) -> None:
    found = predicted(plain, probe=30)
    assert (found.view, found.curve, found.unit_coverages) == ("probe_soft", "none", {})
    assert "fewer than two networks of the reference have probes" in found.remarks[-1]
    for row in found.rows:
        assert row.predicted_loss == row.divergence
        assert row.lower <= row.divergence <= row.upper
        assert row.outside_reference is None
    losses = {row.number_format: row.predicted_loss for row in found.rows}
    assert losses["INT_2"] > losses["INT_8"]
    assert len(losses) == 5
    assert [one.prediction.bits for one in found.recommend(1.0)] == [2, 3, 4, 5, 8]


def test_with_probes_in_the_reference(probed: Database) -> None:
    """With the curve and the held-out errors of the three networks; any view of probes."""
    found = predicted(probed, probe=8)
    assert (found.view, found.curve) == ("probe_soft", "hill")
    assert set(found.unit_coverages) == set(found.reference) == {"net1", "net2", "net3"}
    fewer = predicted(probed, probe=4)
    for row, other in zip(found.rows, fewer.rows, strict=True):
        assert row.lower <= row.predicted_loss <= row.upper
        assert other.number_format == row.number_format
    kl = predicted(probed, probe=8, view="probe_kl")
    assert [row.divergence for row in kl.rows] != [row.divergence for row in found.rows]
    with pytest.raises(UsageError, match="view: probe_kl needs a run"):
        predicted(probed, view="probe_kl")


def test_a_probe_is_that_of_a_collection(probed: Database) -> None:
    source = ptqdb.network(three_layers(2).eval(), name="other name", mean=[0.5], std=[0.25])
    study = ptqdb.open(probed.path)
    found = study.predict(source, pictures(8, "train"), number_formats=FORMATS, probe=128)
    stored = study.view("probe_soft", "network = 'net2'")
    measured = {row.number_format: row.divergence for row in found.rows}
    assert measured == dict(stored.select("number_format", "divergence").iter_rows())
    # Itself it is left out, so that two are left.
    assert "net2 is the same network" in found.remarks[0]
    assert found.reference == ("net1", "net3")


def test_intervals_of_fewer_images_are_wider(probed: Database) -> None:
    """At the same divergence: here that of INT_8, where no prediction changes."""
    few, many = (predicted(probed, probe=count).rows[-1] for count in (2, 8))
    assert few.divergence == many.divergence == 0
    assert few.upper > many.upper


def test_other_views_need_probes_too(plain: Database) -> None:
    with pytest.raises(DataError):
        predicted(plain, probe=8, view="probe_kl")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"probe": 8, "view": "fakefreeze_flops"}, "fakefreeze_flops is not of a probe"),
        ({"view": "probe_soft"}, "probe_soft needs a run of the quantized network: give probe=128"),
        ({"probe": -1}, "expected a number of images, found -1"),
    ],
)
def test_what_is_refused(plain: Database, options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        predicted(plain, **options)


def test_a_probe_needs_images(plain: Database) -> None:
    source = ptqdb.network(three_layers(9).eval(), name="new", mean=[0.5], std=[0.25])
    with pytest.raises(UsageError, match="the images come from calibration"):
        ptqdb.open(plain.path).predict(source, probe=8)


def test_the_command(
    plain: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Run = runner(monkeypatch, capsys)
    found = run("predict", "--network", "AlexNet", "--probe", "8", "--db", plain.path)
    assert found.code == 2
    assert "--probe: the images come from calibration: give --calibration-dataset" in found.err
    found = run("predict", "--network", "AlexNet", "--view", "probe_soft", "--db", plain.path)
    assert (found.code, "give --probe 128" in found.err) == (2, True)


def test_frames_are_those_of_the_view(probed: Database) -> None:
    frame = ptqdb.open(probed.path).view("probe_soft")
    assert frame.height == 15
    assert frame["divergence"].dtype == pl.Float64
