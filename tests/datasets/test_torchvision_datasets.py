"""Datasets of torchvision by name, their files made here: no network is asked."""

import gzip
import hashlib
import importlib
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import Pixels, noise

from ptqdb.datasets.preprocessing import Geometry
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError, MissingExtraError, UsageError

pytest.importorskip("torchvision")
TRAIN, TEST = noise(5, 28, 28), noise(3, 28, 28, seed=1)


def idx(array: Pixels) -> bytes:
    """A file in the IDX format of MNIST: type, dimensions, and the numbers."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Holds FashionMNIST with five training and three test pictures."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for word, pixels in (("train", TRAIN), ("t10k", TEST)):
        labels = np.arange(len(pixels), dtype=np.uint8)
        (raw / f"{word}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"{word}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_a_dataset_with_a_train_argument(root: Path) -> None:
    images = read_images("torchvision:FashionMNIST", "test", root=root)
    assert np.array_equal(images.images[:, 0].numpy(), TEST)
    assert images.known_labels().tolist() == [0, 1, 2]
    assert (images.name, images.split) == ("FashionMNIST", "test")
    assert images.class_names[:2] == ("T-shirt/top", "Trouser")
    assert len(images.class_names) == 10
    training = read_images("torchvision:FashionMNIST", "train", root=root, count=4)
    assert np.array_equal(training.images[:, 0].numpy(), TRAIN[:4])
    with pytest.raises(DataError, match=r"between 1 and 3 images of FashionMNIST test, found 4"):
        read_images("torchvision:FashionMNIST", "test", root=root, count=4)
    with pytest.raises(UsageError, match=r"splits train and test, found 'validation'"):
        read_images("torchvision:FashionMNIST", "validation", root=root)


def test_the_root_may_stand_in_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTQDB_DATA", str(root))
    assert len(read_images("torchvision:FashionMNIST", "test")) == 3


def test_a_network_of_three_channels_may_be_fed(root: Path) -> None:
    images = read_images(
        "torchvision:FashionMNIST", "test", root=root, channels=3, geometry=Geometry(resize=32)
    )
    assert images.images.shape == (3, 3, 32, 32)


def test_a_dataset_with_a_split_argument(tmp_path: Path) -> None:
    """SVHN has train, test and extra; its file is of MATLAB, 10 stands for the digit 0."""
    scipy_io = pytest.importorskip("scipy.io")
    kind = importlib.import_module("torchvision.datasets").SVHN
    pixels = noise(2, 32, 32, 3)
    path = tmp_path / kind.split_list["test"][1]
    scipy_io.savemat(path, {"X": pixels.transpose(1, 2, 3, 0), "y": np.array([[10], [4]])})
    original = kind.split_list["test"]
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    kind.split_list["test"] = [original[0], original[1], digest]
    try:
        images = read_images("torchvision:SVHN", "test", root=tmp_path)
        assert np.array_equal(images.images.permute(0, 2, 3, 1).numpy(), pixels)
        assert images.known_labels().tolist() == [0, 4]
        assert images.class_names == ("0", "1", "2", "3", "4")
        with pytest.raises(UsageError, match=r"SVHN has no split 'validation': .*extra"):
            read_images("torchvision:SVHN", "validation", root=tmp_path)
    finally:
        kind.split_list["test"] = original


def test_a_dataset_without_splits() -> None:
    images = read_images("torchvision:FakeData", "test", count=3)
    assert images.images.shape == (3, 3, 224, 224)
    assert images.split == "all"
    assert "has no splits" in images.remarks[0]


def test_files_that_are_not_there_are_said_and_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"files of FashionMNIST in .*give download.*PTQDB_DATA"):
        read_images("torchvision:FashionMNIST", "test", root=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_torchvision_is_asked_to_download_only_on_request(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    kind = importlib.import_module("torchvision.datasets").MNIST
    monkeypatch.setattr(kind, "download", lambda dataset: asked.append(dataset.root))
    read_images("torchvision:FashionMNIST", "test", root=root)
    assert asked == []
    read_images("torchvision:FashionMNIST", "test", root=root, download=True)
    assert asked == [str(root)]


def test_damaged_files_are_said(root: Path) -> None:
    for raw in (root / "FashionMNIST" / "raw").iterdir():
        raw.write_bytes(gzip.compress(b"damaged"))
    with pytest.raises(DataError, match=r"files of FashionMNIST in .*found: AssertionError; give"):
        read_images("torchvision:FashionMNIST", "test", root=root)


def test_unknown_names_are_answered_with_the_closest() -> None:
    with pytest.raises(UsageError, match=r"'FashonMNIST' .* choose torchvision:NAME from Fash"):
        read_images("torchvision:FashonMNIST", "test")
    for name in ("ImageFolder", "CocoDetection", "wrap_dataset_for_transforms_v2"):
        with pytest.raises(UsageError, match=name):
            read_images(f"torchvision:{name}", "test")


def test_without_torchvision_the_remedy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ptqdb\[torchvision\]'"):
        read_images("torchvision:FashionMNIST", "test")
    with pytest.raises(DataError, match="found no file or folder"):
        read_images(tmp_path / "FashionMNIST", "test")
