"""What files of images say of their classes, written by anybody: taken if right, else left."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pictures import encoded, noise

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError

NUMBERED = ("0", "1", "2")


def written(folder: Path, metadata: str, labels: object = (0, 2, 0)) -> Path:
    pixels = [{"bytes": encoded(image)} for image in noise(3, 4, 4, 3)]
    frame = pl.DataFrame({"image": pixels, "label": labels})
    frame.write_parquet(folder / "test-0.parquet", metadata={"huggingface": metadata})
    return folder


def described(label: object) -> str:
    return json.dumps({"info": {"features": {"label": label}}})


def read(folder: Path, metadata: str, labels: object = (0, 2, 0)) -> ImageSet:
    return read_images(written(folder, metadata, labels), "test")


@pytest.mark.parametrize(
    "metadata",
    [
        *("null", "[]", "3", "true", '"info"', "{}", "", "{", "nan", "[" * 100_000, "1" * 5000),
        *('{"info": null}', '{"info": []}', '{"info": "features"}', '{"info": {}}'),
        *('{"info": {"features": null}}', '{"info": {"features": [{"names": ["a"]}]}}'),
        *(described(None), described([]), described([{"names": ["a", "b", "c"]}]), described("x")),
        *(described({}), described({"names": None}), described({"names": "abc"})),
        *(described({"names": {"0": "a"}}), described({"names": [0, 1, 2]})),
        *(described({"names": ["a", None, "c"]}), described({"names": ["a", "b", "a"]})),
        described({"names": [["a"], ["b"], ["c"]]}),
        json.dumps({"info": {"features": {"other": {"names": ["a", "b", "c"]}}}}),
    ],
)
def test_metadata_that_say_nothing_leave_the_classes_numbered(
    tmp_path: Path, metadata: str
) -> None:
    images = read(tmp_path, metadata)
    assert images.class_names == NUMBERED
    assert images.known_labels().tolist() == [0, 2, 0]


def test_metadata_that_name_the_classes_name_them(tmp_path: Path) -> None:
    images = read(tmp_path, described({"_type": "ClassLabel", "names": ["a", "b", "c", "d"]}))
    assert images.class_names == ("a", "b", "c", "d")


def test_fewer_names_than_labels_are_refused_with_the_place(tmp_path: Path) -> None:
    expected = r"expected labels in 0\.\.1, found 2 in .*test-0\.parquet, row 1"
    with pytest.raises(DataError, match=expected):
        read(tmp_path, described({"names": ["a", "b"]}))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([[0], [1], [0, 1]], r"List\(Int64\)"),
        ([["a"], [], None], r"List\(String\)"),
        ([{"id": 0}] * 3, r"Struct\(.*\)"),
        ([0.0, 1.0, 0.0], "Float64"),
        ([b"a"] * 3, "Binary"),
    ],
)
@pytest.mark.parametrize("label", [None, [{"names": ["a", "b"]}], {"names": ["a", "b"]}])
def test_labels_of_another_kind_are_refused_whatever_the_metadata_say(
    tmp_path: Path, labels: object, found: str, label: Any
) -> None:
    expected = f"expected labels that are whole numbers, texts or booleans in .*, found {found}"
    with pytest.raises(DataError, match=expected):
        read(tmp_path, described(label), labels)


@pytest.mark.parametrize("names", [np.array("abc"), np.array([["a", "b", "c"]]), np.arange(3)])
def test_class_names_of_arrays_are_a_row_of_texts_or_left(tmp_path: Path, names: Any) -> None:
    arrays: dict[str, Any] = {"images": noise(3, 4, 4, 3), "labels": [0, 2, 0]}
    np.savez(tmp_path / "toy.npz", class_names=names, **arrays)
    assert read_images(tmp_path / "toy.npz", "test").class_names == NUMBERED


def test_labels_in_another_encoding_are_refused(tmp_path: Path) -> None:
    labels = np.array([b"caf\xe9", b"tea", b"tea"])
    np.savez(tmp_path / "toy.npz", images=noise(3, 4, 4, 3), labels=labels)
    with pytest.raises(DataError, match=r"expected UTF-8 text in labels of .*toy\.npz"):
        read_images(tmp_path / "toy.npz", "test")
