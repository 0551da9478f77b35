"""From declarations to requests: networks found, images read as each network takes them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ptqdb
from ptqdb.cli import main
from ptqdb.collection.declaration import (
    DatasetEntry,
    NetworkEntry,
    StudyDeclaration,
    network_entries,
)
from ptqdb.collection.requests import collection_request
from ptqdb.errors import DataError, MismatchError, UsageError

Run = Callable[..., tuple[object, str, str]]
SPEC = "tests/helpers/residual_networks.py:resnet20"
EMBEDDED = DatasetEntry(images=6, calibration=3)
NOTHING = NetworkEntry("")
FED: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def declared(*networks: NetworkEntry, **others: Any) -> StudyDeclaration:
    return StudyDeclaration((EMBEDDED,), networks, **others)


def digits_file(folder: Path, *size: int) -> Path:
    """Grayscale pictures of ten classes, 20 to train and 8 to test."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 20), ("test", 8)):
        arrays[f"x_{split}"] = generator.integers(0, 256, (count, *size), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 10
    path = folder / "digits.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def digits(tmp_path: Path) -> DatasetEntry:
    """Pictures of 12 x 10 pixels."""
    return DatasetEntry("digits", str(digits_file(tmp_path, 12, 10)), calibration=5)


def test_without_networks_the_embedded_ones_are_meant() -> None:
    request = collection_request(declared())
    assert [task.name for task in request.tasks] == [
        "AlexNet",
        "AlexNet_BN",
        "VGG_16",
        "VGG_19",
        "Inception_BN",
    ]
    assert all(task.images is request.tasks[0].images for task in request.tasks)
    assert (len(request.tasks[0].images), len(request.tasks[0].calibration)) == (6, 3)
    assert (request.tasks[0].images.name, request.tasks[0].images.split) == ("cifar10", "test")
    assert request.scopes == ("all",)
    assert len(request.number_formats) == 43


def test_a_reference_network_may_have_another_name() -> None:
    (task,) = collection_request(declared(NetworkEntry("AlexNet", name="mine"))).tasks
    assert (task.name, task.source.architecture) == ("mine", "AlexNet")


@pytest.mark.parametrize("specs", [(), ("AlexNet", "VGG_16")])
def test_options_belong_to_one_network(specs: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="class_count: expected exactly one network"):
        network_entries(specs, NetworkEntry("", class_count=10))
    assert [entry.spec for entry in network_entries(specs, NOTHING)] == list(specs)


def test_a_network_that_nobody_says_how_to_feed_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="give mean and std"):
        collection_request(declared(NetworkEntry(SPEC, weights="random")))


def test_two_networks_of_one_name_are_refused() -> None:
    other = NetworkEntry(SPEC, name="AlexNet", weights="random", **FED)
    with pytest.raises(UsageError, match=r"AlexNet and .*resnet20 are both named AlexNet.*name"):
        collection_request(declared(NetworkEntry("AlexNet"), other))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"scopes": ("weights",)}, "scopes: expected any of all, weight"),
        ({"device": "gpu"}, "device: expected cpu, cuda"),
    ],
)
def test_what_does_not_exist_is_refused(others: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        collection_request(declared(**others))


def test_images_are_read_as_each_network_takes_them(digits: DatasetEntry) -> None:
    gray = NetworkEntry("AlexNet", "digits", weights="random", mean=(0.1,), std=(0.3,), name="gray")
    colour = NetworkEntry(SPEC, "digits", weights="random", crop=8, **FED)
    again = NetworkEntry(SPEC, "digits", weights="random", crop=8, name="again", **FED)
    request = collection_request(StudyDeclaration((digits,), (gray, colour, again)))
    shapes = [tuple(task.images.images.shape) for task in request.tasks]
    assert shapes == [(8, 1, 12, 10), (8, 3, 8, 8), (8, 3, 8, 8)]
    assert [len(task.calibration) for task in request.tasks] == [5, 5, 5]
    assert request.tasks[0].calibration.split == "train"
    assert request.tasks[1].images is request.tasks[2].images
    assert request.tasks[1].images.name == "digits"


def test_calibration_images_may_be_elsewhere(digits: DatasetEntry) -> None:
    entry = DatasetEntry(path=digits.path, calibration=4, images=2, split="train")
    network = NetworkEntry("AlexNet", weights="random", mean=(0.1,), std=(0.3,))
    (task,) = collection_request(StudyDeclaration((entry,), (network,))).tasks
    assert (len(task.images), len(task.calibration)) == (2, 4)
    missing = DatasetEntry(path=digits.path, calibration_path="nowhere")
    with pytest.raises(DataError, match="nowhere"):
        collection_request(StudyDeclaration((missing,), (network,)))


# What a collection would do


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PTQDB_DB", raising=False)

    def call(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["ptqdb", "collect", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return call


STUDY = """
number_formats = "INT_4,INT_8"
scopes = ["weight"]
[dataset.digits]
path = "digits.npz"
calibration = 5
[[network]]
spec = "AlexNet"
weights = "random"
mean = [0.1, 0.1, 0.1]
std = [0.3, 0.3, 0.3]
crop = 10
[[network]]
spec = "AlexNet_BN"
weights = "random"
class_count = 7
mean = [0.1, 0.1, 0.1]
std = [0.3, 0.3, 0.3]
"""


@pytest.mark.slow
def test_a_study_is_shown_and_then_collected(tmp_path: Path, run: Run) -> None:
    digits_file(tmp_path, 32, 32)
    (tmp_path / "study.toml").write_text(STUDY.replace("crop = 10\n", ""))
    code, out, err = run("study.toml", "--dry-run", "--format", "json")
    rows = json.loads(out)
    assert [(row["network"], row["scope"], row["to_fill"]) for row in rows] == [
        ("AlexNet", "all", 2),
        ("AlexNet", "weight", 2),
        ("AlexNet_BN", "all", None),
        ("AlexNet_BN", "weight", None),
    ]
    assert rows[0]["formats"] == "INT_4, INT_8"
    assert (rows[0]["images"], rows[0]["calibration"]) == (8, 5)
    assert "AlexNet_BN would fail: expected as many outputs" in err
    assert "4 cells to fill, 0 already present, about" in err
    assert code == 1
    assert not (tmp_path / "ptqdb.duckdb").exists()

    code, _, err = run("study.toml")
    assert (code, "4 cells filled" in err) == (1, True)
    _, out, err = run("study.toml", "--dry-run", "--format", "json")
    assert [row["there_already"] for row in json.loads(out)[:2]] == [2, 2]
    assert "0 cells to fill, 4 already present, about 0 s" in err


def test_options_beside_a_study_file_are_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    code, out, err = run("study.toml", "--images", "5")
    assert (code, out) == (2, "")
    assert "study.toml declares networks, images and formats" in err


@pytest.mark.slow
def test_a_module_in_memory_is_a_network_and_is_left_alone(tmp_path: Path) -> None:
    digits_file(tmp_path, 32, 32)
    torch.manual_seed(0)
    layer = nn.Linear(1024, 10)
    with torch.no_grad():
        layer.bias[0] += 100  # right of one image in eight: a loss needs an accuracy
    module = nn.Sequential(nn.Flatten(), layer)
    before = layer.weight.detach().clone()
    mine = ptqdb.network(module, name="mine", mean=(0.1,), std=(0.3,))
    images = ptqdb.images(tmp_path / "digits.npz", "test")
    calibration = ptqdb.images(tmp_path / "digits.npz", "train")
    database = tmp_path / "mine.duckdb"
    outcome = ptqdb.open(database, create=True).collect(
        mine, images, calibration, number_formats="INT_4,INT_8"
    )
    assert (outcome.filled_count, outcome.failures) == (2, [])
    assert ptqdb.open(database, create=True).collect([mine], images, calibration).present_count == 2
    assert torch.equal(layer.weight, before)
    with ptqdb.open(database) as study:
        # param: one layer alone has all params, whatever its share of nearly no MACs
        frame = study.view("fakefreeze_param", where="number_format = 'INT_4'")
        assert frame["network"].to_list() == ["mine"]
        assert study.sql("select count(*) from layer").item() == 1
        assert study.fit("fakefreeze_param")[0].points == 43
        assert "mine" in str(study.chart("fakefreeze_param", network="mine").to_dict())
    with torch.no_grad():
        layer.weight += 1
    other = ptqdb.network(module, name="mine", mean=(0.1,), std=(0.3,))
    with pytest.raises(MismatchError, match="mine from another checkpoint"):
        ptqdb.open(database, create=True).collect(other, images, calibration)
