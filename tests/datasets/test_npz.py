"""Images from .npz files, whichever names and axes they have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import noise

from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError

LABELS = np.array([1, 0, 2])


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path / "toy.npz", **arrays)
    return path / "toy.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels"),
        ("x_test", "y_test"),
        ("X_test", "Y_test"),
        ("test_images", "test_labels"),
        ("val_images", "val_labels"),
        ("data", "targets"),
    ],
)
def test_the_usual_names_are_found(tmp_path: Path, names: tuple[str, str]) -> None:
    pixels = noise(3, 6, 5, 3)
    images = read_images(saved(tmp_path, **{names[0]: pixels, names[1]: LABELS}), "test")
    assert np.array_equal(images.images.permute(0, 2, 3, 1).numpy(), pixels)
    assert images.known_labels().tolist() == [1, 0, 2]
    assert images.class_names == ("0", "1", "2")


def test_the_layout_of_medmnist(tmp_path: Path) -> None:
    train, test = noise(4, 7, 7), noise(3, 7, 7, seed=1)
    path = saved(
        tmp_path,
        train_images=train,
        train_labels=np.array([[0], [1], [2], [3]], np.uint8),
        val_images=test[:1],
        val_labels=np.array([[0]], np.uint8),
        test_images=test,
        test_labels=LABELS[:, None].astype(np.uint8),
    )
    images = read_images(path, "test")
    assert np.array_equal(images.images[:, 0].numpy(), test)
    assert (images.name, images.split) == ("toy", "test")
    assert images.class_names == ("0", "1", "2", "3")  # the training labels have four
    assert images.known_labels().tolist() == LABELS.tolist()
    assert len(read_images(path, "train")) == 4
    assert read_images(path, "validation").split == "val"


def test_arrays_may_be_named(tmp_path: Path) -> None:
    path = saved(tmp_path, pictures=noise(3, 6, 6), kinds=np.array(["b", "a", "b"]))
    images = read_images(path, "test", image_column="pictures", label_column="kinds")
    assert images.known_labels().tolist() == [1, 0, 1]
    assert "a = 0, b = 1" in " ".join(images.remarks)
    with pytest.raises(DataError, match=r"image_column: .* has pictures, kinds; found picture$"):
        read_images(path, "test", image_column="picture", label_column="kinds")
    with pytest.raises(DataError, match=r"test_images.*found pictures, kinds; give image_column"):
        read_images(path, "test")


def test_one_array_may_be_named_and_the_other_usual(tmp_path: Path) -> None:
    path = saved(tmp_path, test_pictures=noise(3, 6, 6), test_labels=LABELS)
    images = read_images(path, "test", image_column="test_pictures")
    assert images.known_labels().tolist() == LABELS.tolist()


def test_declared_class_names_bind_the_labels(tmp_path: Path) -> None:
    names = np.array(["cat", "dog"])
    path = saved(tmp_path, images=noise(3, 6, 6), labels=LABELS, class_names=names)
    with pytest.raises(DataError, match=r"in 0\.\.1, found 2 in .*toy\.npz, row 2"):
        read_images(path, "test")
    path = saved(
        tmp_path, images=noise(2, 6, 6), labels=np.array(["dog", "cow"]), class_names=names
    )
    with pytest.raises(DataError, match=r"one of 2 classes, found cow in .*row 1"):
        read_images(path, "test")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 6, 6, 3), np.float32), r"found float32; .* by \(x \* 255\)"),
        (np.zeros((3, 6, 6), bool), "found bool"),
        (np.full((3, 6, 6), 300), "numbers from 300 to 300"),
        (np.full((3, 6, 6), -1), "numbers from -1 to -1"),
        (noise(3, 3, 8, 3), "3 x 8 x 3, where both could be"),
        (noise(3, 6, 6, 4), "6 x 6 x 4, where neither is"),
        (noise(3, 36), "found 36"),
        (noise(2, 6, 6), "found 3 in labels and 2 in images"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, images: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_images(saved(tmp_path, images=images, labels=LABELS), "test")


def test_wider_integers_that_hold_pixels_are_taken(tmp_path: Path) -> None:
    pixels = noise(3, 6, 6)
    images = read_images(saved(tmp_path, images=pixels.astype(np.int64), labels=LABELS), "test")
    assert np.array_equal(images.images[:, 0].numpy(), pixels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(3), r"3 x 3; of one-hot labels store labels\.argmax"),
        (np.array([0.0, 1.0, 2.0]), "found float64"),
        (np.array([0, -1, 2]), r"found -1 in .*row 1; -1 marks a split"),
        (np.array([0, 10**9, 2]), "number the classes from 0, found 1000000000"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_images(saved(tmp_path, images=noise(3, 6, 6), labels=labels), "test")


def test_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, images=noise(0, 6, 6), labels=np.zeros(0, int))
    with pytest.raises(DataError, match="found none in images"):
        read_images(path, "test")
    path.write_bytes(b"text")
    with pytest.raises(DataError, match=r"\.npz file of plain arrays, found .*toy\.npz"):
        read_images(path, "test")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"\.npz file of plain arrays, found .*toy\.npz"):
        read_images(path, "test")
    with path.open("wb") as file:
        np.save(file, noise(1, 2))
    with pytest.raises(DataError, match=r"found one; use np\.savez"):
        read_images(path, "test")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None, 3], dtype=object)
    path = saved(tmp_path, images=objects, labels=LABELS)
    with pytest.raises(DataError, match=r"plain arrays.*Object arrays cannot be loaded"):
        read_images(path, "test")
