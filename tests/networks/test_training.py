"""Training: the schedule, the augmentation, and going on after a stop."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import torch

from ptqdb.datasets.images import ImageSet
from ptqdb.errors import DataError, MismatchError
from ptqdb.networks.sources import described_source
from ptqdb.networks.training import Training, TrainingProgress, accuracy, augment
from ptqdb.networks.training_settings import SETTINGS, TrainingSettings, learning_rate

SMALL = TrainingSettings(epochs=2, batch_size=8, peak_learning_rate=0.02, warmup_epochs=0.5)


def images(count: int = 32, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    pixels[labels == 1] //= 4
    return ImageSet("toy", "train", pixels, labels, ("bright", "dark"))


class Stop(Exception):  # noqa: N818
    """Stands for a kill between two steps."""


def run(folder: Path, settings: TrainingSettings = SMALL, stop_at: int | None = None) -> Path:
    training = Training("AlexNet_BN", images(), folder, settings, width=0.0625)

    def tell(progress: TrainingProgress) -> None:
        if progress.step == stop_at:
            raise Stop

    return training.run(tell)


def test_a_stopped_training_ends_as_one_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqdb.networks.training.SECONDS_BETWEEN_STATES", 0.0)
    whole = run(tmp_path / "whole")
    for stop_at in (3, 6):
        with pytest.raises(Stop):
            run(tmp_path / "stopped", stop_at=stop_at)
        assert (tmp_path / "stopped" / "AlexNet_BN.state").exists()
    resumed = run(tmp_path / "stopped")
    assert resumed.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "stopped" / "AlexNet_BN.state").exists()


def test_a_training_learns_and_logs_each_epoch(tmp_path: Path) -> None:
    path = run(tmp_path, TrainingSettings(epochs=6, batch_size=8, peak_learning_rate=0.02))
    log = pl.read_parquet(tmp_path / "AlexNet_BN.log.parquet")
    assert log["epoch"].to_list() == [1, 2, 3, 4, 5, 6]
    assert log["loss"][-1] < log["loss"][0]
    network = described_source(path).load()
    assert network.architecture == "AlexNet"
    assert accuracy(network.module, images()) > 0.9
    assert (path.stat().st_mode & 0o044) == 0o044


def test_a_state_of_other_settings_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqdb.networks.training.SECONDS_BETWEEN_STATES", 0.0)
    with pytest.raises(Stop):
        run(tmp_path, stop_at=3)
    other = TrainingSettings(epochs=3, batch_size=8, peak_learning_rate=0.02, warmup_epochs=0.5)
    with pytest.raises(MismatchError, match=r"epochs 2 instead of 3.*replace"):
        run(tmp_path, other)


def test_a_damaged_state_is_said(tmp_path: Path) -> None:
    (tmp_path / "AlexNet_BN.state").write_bytes(b"not a state")
    with pytest.raises(DataError, match=r"AlexNet_BN\.state"):
        run(tmp_path)


def test_schedule_rises_to_the_peak_and_falls_to_zero() -> None:
    settings = TrainingSettings(epochs=10, peak_learning_rate=0.5, warmup_epochs=2)
    rates = [learning_rate(settings, step, 10) for step in range(100)]
    assert rates[19] == pytest.approx(0.5)
    assert all(a < b for a, b in pairwise(rates[:20]))
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert rates[-1] < 0.001


def test_augmentation_shifts_over_a_zero_border_and_mirrors() -> None:
    picture = torch.arange(1.0, 37.0).reshape(1, 1, 6, 6)
    batch = augment(picture.expand(200, 1, 6, 6), torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(picture, [4] * 4)
    crops = {
        tuple(source[..., y : y + 6, x : x + 6].flatten().tolist())
        for source in (padded, padded.flip(-1))
        for y in range(9)
        for x in range(9)
    }
    found = {tuple(image.flatten().tolist()) for image in batch}
    assert found <= crops
    assert len(found) > 80


def test_every_reference_network_has_settings() -> None:
    from ptqdb.networks.reference import REFERENCE_NETWORKS

    assert set(SETTINGS) == set(REFERENCE_NETWORKS)
    assert all(settings.warmup_epochs < settings.epochs for settings in SETTINGS.values())
