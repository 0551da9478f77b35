"""From declarations to requests: networks found, images read as each network takes them."""

from pathlib import Path

import numpy as np
import pytest

from ptqdb.declaration import DatasetEntry, NetworkEntry, StudyDeclaration
from ptqdb.errors import DataError, UsageError
from ptqdb.requests import collection_request, entries_of

SPEC = "tests/residual_networks.py:resnet20"
EMBEDDED = DatasetEntry(images=6, calibration=3)
NOTHING = NetworkEntry("")
FED = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def declared(*networks: NetworkEntry, **others: object) -> StudyDeclaration:
    return StudyDeclaration((EMBEDDED,), networks, **others)  # type: ignore[arg-type]


@pytest.fixture
def digits(tmp_path: Path) -> DatasetEntry:
    """Grayscale pictures of 12 x 10 pixels, 20 to train and 8 to test."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 20), ("test", 8)):
        arrays[f"x_{split}"] = generator.integers(0, 256, (count, 12, 10), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 10
    np.savez(tmp_path / "digits.npz", **arrays)  # type: ignore[arg-type]
    return DatasetEntry("digits", str(tmp_path / "digits.npz"), calibration=5)


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
    with pytest.raises(UsageError, match="--class-count: expected one --network that it belongs"):
        entries_of(specs, NetworkEntry("", class_count=10))
    assert [entry.spec for entry in entries_of(specs, NOTHING)] == list(specs)


def test_a_network_that_nobody_says_how_to_feed_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="give --mean and --std"):
        collection_request(declared(NetworkEntry(SPEC, weights="random")))


def test_two_networks_of_one_name_are_refused() -> None:
    other = NetworkEntry(SPEC, name="AlexNet", weights="random", **FED)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"AlexNet and .*resnet20 are both named AlexNet.*--name"):
        collection_request(declared(NetworkEntry("AlexNet"), other))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"number_formats": "INT_99"}, "INT_99"),
        ({"scopes": ("weights",)}, "--scopes: expected any of all, weight"),
        ({"device": "gpu"}, "--device: expected cpu, cuda"),
    ],
)
def test_what_does_not_exist_is_refused(others: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        collection_request(declared(**others))


def test_images_are_read_as_each_network_takes_them(digits: DatasetEntry) -> None:
    gray = NetworkEntry("AlexNet", "digits", weights="random", mean=(0.1,), std=(0.3,), name="gray")
    colour = NetworkEntry(SPEC, "digits", weights="random", crop=8, **FED)  # type: ignore[arg-type]
    again = NetworkEntry(SPEC, "digits", weights="random", crop=8, name="again", **FED)  # type: ignore[arg-type]
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
