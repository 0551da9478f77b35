"""Images read without labels: the same pixels from anywhere, and never evaluated by accident."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from collecting import images as toy_images
from collecting import source
from pictures import encoded, noise, write_class_folders, write_parquet

from ptqdb.collection.plan import NetworkTask
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError, UsageError

PIXELS = noise(5, 6, 7, 3)
LABELS = [0, 1, 2, 0, 1]
CLASSES = ("cat", "dog", "ship")


def pixels_of(images: ImageSet) -> Any:
    return images.images.permute(0, 2, 3, 1).numpy()


def write_pictures(folder: Path, pixels: Any = PIXELS) -> Path:
    """``FOLDER/*.png``, numbered as they come."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pixels):
        (folder / f"{number}.png").write_bytes(encoded(picture))
    return folder


def write_flat(folder: Path) -> Path:
    write_pictures(folder / "flat").joinpath("notes.txt").write_text("no picture", "utf-8")
    return folder / "flat"


def write_split(folder: Path) -> Path:
    write_pictures(folder / "split" / "train")
    write_pictures(folder / "split" / "test", PIXELS[:1])
    return folder / "split"


def write_classes(folder: Path) -> Path:
    return write_class_folders(folder / "classes", list(PIXELS), LABELS, CLASSES)


def write_bare_parquet(folder: Path) -> Path:
    frame = pl.DataFrame({"image": [{"bytes": encoded(picture)} for picture in PIXELS]})
    frame.head(2).write_parquet(folder / "train-0.parquet")
    frame.tail(3).write_parquet(folder / "train-1.parquet")
    return folder / "*.parquet"


def write_secret_parquet(folder: Path) -> Path:
    """Its labels cannot be numbered: they are not looked at."""
    data = [encoded(picture) for picture in PIXELS]
    return write_parquet(folder / "secret.parquet", data, [-1, None, -1, -1, 10**9])


def write_bare_npz(folder: Path) -> Path:
    np.savez(folder / "bare.npz", x_train=PIXELS, x_test=PIXELS[:1])
    return folder / "bare.npz"


@pytest.mark.parametrize(
    "write",
    [
        write_flat,
        write_split,
        write_classes,
        write_bare_parquet,
        write_secret_parquet,
        write_bare_npz,
    ],
)
def test_labels_need_not_be_there(tmp_path: Path, write: Any) -> None:
    given = write(tmp_path)
    images = read_images(given, "train", labelled=False)
    assert np.array_equal(pixels_of(images), PIXELS)
    assert (images.labels, images.class_names) == (None, ())
    assert images.remarks == images.notes
    some = read_images(given, "train", labelled=False, count=3)
    assert np.array_equal(pixels_of(some), PIXELS[:3])
    assert some.content_sha256 == images.head(3).content_sha256
    with pytest.raises(DataError, match=r"between 1 and 5 images.*found 6"):
        read_images(given, "train", labelled=False, count=6)


def test_the_container_does_not_matter_and_labels_do(tmp_path: Path) -> None:
    containers = (write_flat, write_classes, write_bare_npz)
    found = [read_images(write(tmp_path), "train", labelled=False) for write in containers]
    assert len({images.content_sha256 for images in found}) == 1
    labelled = read_images(tmp_path / "classes", "train")
    assert labelled.content_sha256 != found[0].content_sha256
    assert torch.equal(labelled.images, found[0].images)


def test_a_folder_named_train_beside_another_name_is_a_class(tmp_path: Path) -> None:
    write_class_folders(tmp_path, list(PIXELS), [0, 1, 0, 1, 0], ("car", "train"))
    images = read_images(tmp_path, "train", labelled=False)
    assert np.array_equal(pixels_of(images), PIXELS)
    assert images.split == "all"


def test_no_labelled_split_stands_in_for_one_without(tmp_path: Path) -> None:
    data = [encoded(picture) for picture in PIXELS]
    write_parquet(tmp_path / "test-0.parquet", data[:2], [-1, -1])
    write_parquet(tmp_path / "validation-0.parquet", data[2:], [0, 1, 2])
    assert read_images(tmp_path, "test").split == "validation"
    images = read_images(tmp_path, "test", labelled=False)
    assert (images.split, images.remarks) == ("test", ())
    assert np.array_equal(pixels_of(images), PIXELS[:2])


def test_a_torchvision_dataset_is_read_without_labels() -> None:
    pytest.importorskip("torchvision")
    labelled = read_images("torchvision:FakeData", "train", count=2)
    images = read_images("torchvision:FakeData", "train", count=2, labelled=False)
    assert torch.equal(images.images, labelled.images)
    assert images.labels is None


def test_what_is_not_there_is_explained(tmp_path: Path) -> None:
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    write_pictures(tmp_path / "empty" / ".hidden")
    with pytest.raises(DataError, match=r"train-\*\.parquet, or images \(\.jpg.*found \.hidden"):
        read_images(tmp_path / "empty", "train", labelled=False)
    write_pictures(tmp_path / "split" / "test")
    with pytest.raises(DataError, match=r"expected the folder .*/train, found only test"):
        read_images(tmp_path / "split", "train", labelled=False)
    np.savez(tmp_path / "named.npz", pictures=PIXELS)
    with pytest.raises(DataError, match=r"x_train or images in .*; give image_column$"):
        read_images(tmp_path / "named.npz", "train", labelled=False)
    images = read_images(tmp_path / "named.npz", "train", labelled=False, image_column="pictures")
    assert np.array_equal(pixels_of(images), PIXELS)
    with pytest.raises(UsageError, match=r"label_column: expected none .* found 'kinds'"):
        read_images(tmp_path / "named.npz", "train", labelled=False, label_column="kinds")


def test_images_without_labels_are_not_evaluated(tmp_path: Path) -> None:
    images = replace(toy_images(4), labels=None, class_names=())
    with pytest.raises(DataError, match=r"expected labelled images.* found toy test read without"):
        images.known_labels()
    network = source(tmp_path, "AlexNet")
    with pytest.raises(DataError, match="expected labelled images"):
        NetworkTask(network, images, toy_images(4))
    assert NetworkTask(network, toy_images(4), images).calibration.labels is None
