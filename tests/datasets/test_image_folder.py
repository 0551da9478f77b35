"""Folders with one subfolder per class."""

from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, noise, write_class_folders

from ptqdb.datasets.preprocessing import Geometry
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError

CLASSES = ("b", "C", "a1")  # sorted as texts: C, a1, b


def test_classes_and_pixels_are_those_of_image_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    write_class_folders(tmp_path / "val", list(noise(7, 6, 5, 3)), [0, 0, 0, 1, 2, 2, 0], CLASSES)
    (tmp_path / "val" / "b" / "deeper").mkdir()
    (tmp_path / "val" / "b" / "deeper" / "x.JPG").write_bytes(encoded(noise(1, 6, 5, 3)[0], "JPEG"))
    (tmp_path / "val" / "b" / "notes.txt").write_text("not a picture", encoding="utf-8")
    oracle = datasets.ImageFolder(tmp_path / "val")
    images = read_images(tmp_path, "test")
    assert images.class_names == tuple(oracle.classes)
    assert (images.name, images.split) == (tmp_path.name, "val")
    assert "'val' replaces 'test'" in images.remarks[0]
    of_class = [[np.asarray(i) for i, label in oracle if label == number] for number in range(3)]
    turns = [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert images.known_labels().tolist() == [label for label, _ in turns]
    for found, (label, position) in zip(images.images, turns, strict=True):
        assert np.array_equal(found.permute(1, 2, 0).numpy(), of_class[label][position])


def test_the_first_so_many_are_spread_over_the_classes(tmp_path: Path) -> None:
    labels = [0, 0, 0, 0, 1, 1, 2]
    write_class_folders(tmp_path, list(noise(7, 4, 4)), labels, ("x", "y", "z"))
    images = read_images(tmp_path, "test", count=5)
    assert images.known_labels().tolist() == [0, 1, 2, 0, 1]
    assert images.split == "all"
    assert images.remarks == (f"{tmp_path} has no splits: its images are used for test",)


def test_a_class_that_one_split_lacks_does_not_shift_the_others(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", list(noise(3, 4, 4)), [0, 1, 2], ("x", "y", "z"))
    write_class_folders(tmp_path / "test", list(noise(2, 4, 4)), [0, 1], ("x", "z"))
    images = read_images(tmp_path, "test")
    assert images.class_names == ("x", "y", "z")
    assert images.known_labels().tolist() == [0, 2]
    assert "2 of 3 classes; missing: y" in images.remarks[0]


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    write_class_folders(tmp_path, list(noise(2, 4, 4)), [0, 1], ("car", "train"))
    assert read_images(tmp_path, "test").class_names == ("car", "train")


def test_numbers_as_names_are_sorted_as_texts_and_it_is_said(tmp_path: Path) -> None:
    names = ("0", "2", "10")
    write_class_folders(tmp_path / "test", list(noise(3, 4, 4)), [0, 1, 2], names)
    images = read_images(tmp_path, "test")
    assert images.class_names == ("0", "10", "2")
    assert "0 = 0, 10 = 1, 2 = 2" in images.remarks[0]
    write_class_folders(tmp_path / "few" / "test", list(noise(2, 4, 4)), [0, 1], ("0", "1"))
    assert read_images(tmp_path / "few", "test").remarks == ()


def test_a_split_that_is_not_there_is_said(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train", list(noise(1, 4, 4)), [0], ("x",))
    with pytest.raises(DataError, match=r"/test with one subfolder per class, found only train"):
        read_images(tmp_path, "test")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>", "its format is not known"),
        (encoded(noise(1, 64, 64, 3)[0], "JPEG")[:1500], "truncated"),
        (encoded(noise(1, 64, 64, 3)[0], "PNG")[:1500], "truncated"),
    ],
)
def test_a_corrupt_picture_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    write_class_folders(tmp_path, list(noise(2, 64, 64, 3)), [0, 0], ("x",))
    (tmp_path / "x" / "0001.png").write_bytes(data)
    with pytest.raises(DataError, match=rf"x/0001\.png; it is corrupt or missing: .*{reason}"):
        read_images(tmp_path, "test")


def test_pictures_of_several_sizes_need_a_geometry(tmp_path: Path) -> None:
    write_class_folders(tmp_path, list(noise(1, 9, 6, 3)), [0], ("x",))
    (tmp_path / "x" / "b.png").write_bytes(encoded(noise(1, 5, 8, 3)[0]))
    with pytest.raises(
        DataError,
        match=r"size, found 6 x 9 in .*0000\.png and 8 x 5 in .*b\.png; give resize",
    ):
        read_images(tmp_path, "test")
    images = read_images(tmp_path, "test", geometry=Geometry(resize=6, crop=5))
    assert images.images.shape == (2, 3, 5, 5)
    with pytest.raises(DataError, match=r"b\.png: expected .* at least 6 x 6 .* found 8 x 5"):
        read_images(tmp_path, "test", geometry=Geometry(crop=6))
