"""Images from Parquet: files, columns, kinds of labels, and what is said of bad ones."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pictures import encoded, noise, write_parquet

from ptqdb.datasets.images import normalize
from ptqdb.datasets.parquet import cut, read_parquet
from ptqdb.datasets.parquet_files import best_place, dataset_name
from ptqdb.datasets.preprocessing import Geometry
from ptqdb.datasets.reading import read_images
from ptqdb.datasets.request import ImageRequest
from ptqdb.errors import DataError

CLASSES = ["cat", "dog", "ship"]


def png(seed: int, size: int = 6) -> bytes:
    return encoded(noise(1, size, size, 3, seed=seed)[0])


def write(
    folder: Path, name: str, images: list[bytes], labels: list[int], *, classes: bool = True
) -> Path:
    return write_parquet(folder / name, images, labels, classes=CLASSES if classes else ())


def test_pixels_labels_and_class_names_are_those_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, "test-00000-of-00002.parquet", [png(0), png(1)], [2, 0])
    write(tmp_path, "test-00001-of-00002.parquet", [png(2)], [1])
    images = read_parquet(tmp_path, "test", name="toy")
    assert images.images.shape == (3, 3, 6, 6)
    expected = noise(1, 6, 6, 3, seed=2)[0]
    assert np.array_equal(images.images[2].permute(1, 2, 0).numpy(), expected)
    assert images.known_labels().tolist() == [2, 0, 1]
    assert images.class_names == tuple(CLASSES)
    assert (images.name, images.split, len(images)) == ("toy", "test", 3)


def test_the_hash_tells_pixels_and_labels_apart(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0), png(1)], [2, 0])
    write(tmp_path, "train-0.parquet", [png(0), png(1)], [2, 1])
    test, train = read_parquet(tmp_path, "test"), read_parquet(tmp_path, "train")
    assert test.content_sha256 == read_parquet(tmp_path, "test").content_sha256
    assert test.content_sha256 != train.content_sha256
    assert test.head(1).content_sha256 == train.head(1).content_sha256
    assert test.head(1).content_sha256 != test.content_sha256


def test_a_cut_keeps_bytes_and_class_names(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, "test-00000-of-00002.parquet", [png(0), png(1)], [2, 0])
    write(source, "test-00001-of-00002.parquet", [png(2), png(3)], [1, 1])
    cut(source, "test", 3, tmp_path / "target")
    expected = read_parquet(source, "test").head(3)
    found = read_parquet(tmp_path / "target", "test")
    assert found.content_sha256 == expected.content_sha256
    assert found.class_names == tuple(CLASSES)


def test_a_corrupt_image_is_named_by_file_and_row(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0), b"not an image"], [0, 0])
    with pytest.raises(DataError, match=r"test-0\.parquet, row 1"):
        read_parquet(tmp_path, "test")


def test_a_label_out_of_range_is_named_by_file_and_row(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0), png(1)], [0, 3])
    with pytest.raises(DataError, match=r"0\.\.2, found 3 in .*test-0\.parquet, row 1"):
        read_parquet(tmp_path, "test")


def test_without_class_names_the_labels_number_the_classes(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0), png(1)], [0, 4], classes=False)
    assert len(read_parquet(tmp_path, "test").class_names) == 5


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0), png(1, size=7)], [0, 0])
    with pytest.raises(DataError, match="one size"):
        read_parquet(tmp_path, "test")


def test_missing_files_columns_and_images_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        read_parquet(tmp_path, "test")
    pl.DataFrame({"pixels": [1]}).write_parquet(tmp_path / "test-0.parquet")
    with pytest.raises(DataError, match=r"img or image.*found pixels"):
        read_parquet(tmp_path, "test")
    write(tmp_path, "test-0.parquet", [], [])
    with pytest.raises(DataError, match="found none"):
        read_parquet(tmp_path, "test")
    (tmp_path / "test-0.parquet").write_bytes(b"text")
    with pytest.raises(DataError, match="Parquet file"):
        read_parquet(tmp_path, "test")


def test_more_images_than_there_are_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0)], [0])
    with pytest.raises(DataError, match=r"between 1 and 1 images.*found 2"):
        read_parquet(tmp_path, "test").head(2)


def test_normalization_is_by_mean_and_deviation() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    found = normalize(images, torch.tensor([0.2]), torch.tensor([0.5]))
    assert torch.allclose(found.flatten(), torch.tensor([-0.4, 0.0, 1.6]), atol=1e-6)


PLACES = {
    "at the top": "{}-00000-of-00001.parquet",
    "in data": "data/{}-00000-of-00001.parquet",
    "in plain_text": "plain_text/{}-00000-of-00001.parquet",
    "in a subset": "fashion_mnist/{}-00000-of-00001.parquet",
    "one folder per split": "{}/0000.parquet",
    "as the hub converts": "default/{}/0000.parquet",
    "without a number": "{}.parquet",
    "after the name": "cifar10_{}.parquet",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_files_are_found_where_datasets_have_them(tmp_path: Path, place: str) -> None:
    for seed, split in enumerate(("train", "test")):
        write(tmp_path, place.format(split), [png(seed)], [seed])
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache", "test-0.parquet", [png(9)], [2])
    for seed, split in enumerate(("train", "test")):
        images = read_images(tmp_path, split, name="toy")
        assert images.split == split
        assert images.known_labels().tolist() == [seed]
        assert np.array_equal(
            images.images[0].permute(1, 2, 0).numpy(), noise(1, 6, 6, 3, seed=seed)[0]
        )


def test_files_at_the_top_come_before_those_below(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0)], [0])
    write(tmp_path / "data", "test-0.parquet", [png(1)], [1])
    assert read_images(tmp_path, "test").known_labels().tolist() == [0]


def test_several_datasets_in_one_folder_are_refused(tmp_path: Path) -> None:
    for subset in ("fine", "coarse"):
        write(tmp_path / subset, "test-0.parquet", [png(0)], [0])
    with pytest.raises(DataError, match=r"each of coarse, fine; give .*/coarse$"):
        read_images(tmp_path, "test")


@pytest.mark.parametrize("word", ["validation", "valid", "val"])
def test_validation_stands_in_for_test(tmp_path: Path, word: str) -> None:
    write(tmp_path, "train-0.parquet", [png(0)], [0])
    write(tmp_path, f"{word}-0.parquet", [png(1)], [1])
    images = read_images(tmp_path, "test")
    assert images.split == word
    assert f"{word!r} replaces 'test'" in images.remarks[0]
    assert read_images(tmp_path, "validation").split == word


def test_a_test_split_without_labels_is_passed_over(tmp_path: Path) -> None:
    """As in ImageNet on the hub, whose test labels are all -1."""
    write(tmp_path, "test-0.parquet", [png(0), png(1)], [-1, -1])
    with pytest.raises(DataError, match=r"found -1 in .*row 0; -1 marks a split without"):
        read_images(tmp_path, "test")
    write(tmp_path, "validation-0.parquet", [png(2)], [2])
    assert read_images(tmp_path, "test").known_labels().tolist() == [2]


def test_test_is_taken_before_validation(tmp_path: Path) -> None:
    write(tmp_path, "validation-0.parquet", [png(1)], [1])
    write(tmp_path, "test-0.parquet", [png(0)], [0])
    images = read_images(tmp_path, "test")
    assert (images.split, images.known_labels().tolist()) == ("test", [0])


def test_a_split_that_is_not_there_is_said(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0)], [0])
    with pytest.raises(DataError, match=r"train-\*\.parquet in .*, found only files of test"):
        read_images(tmp_path, "train")
    with pytest.raises(DataError, match="found only files of test"):
        read_images(tmp_path / "test-0.parquet", "train")


def test_globs_and_single_files(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10"
    write(folder, "train-0.parquet", [png(0)], [0])
    write(folder, "test-0.parquet", [png(1)], [1])
    by_glob = read_images(f"{folder}/*.parquet", "train")
    assert (by_glob.name, by_glob.split, by_glob.known_labels().tolist()) == (
        "cifar10",
        "train",
        [0],
    )
    by_file = read_images(folder / "test-0.parquet", "test")
    assert (by_file.name, by_file.split, by_file.known_labels().tolist()) == (
        "cifar10",
        "test",
        [1],
    )
    write(tmp_path / "other", "images.parquet", [png(2)], [2])
    for split in ("train", "test"):
        images = read_images(tmp_path / "other" / "images.parquet", split)
        assert (images.split, images.known_labels().tolist()) == ("all", [2])
        assert "has no splits" in images.remarks[0]


def test_names_with_wildcards_may_be_those_of_folders_and_files(tmp_path: Path) -> None:
    write(tmp_path / "a[1]", "test-0.parquet", [png(0)], [0])
    assert read_images(tmp_path / "a[1]", "test").known_labels().tolist() == [0]
    write(tmp_path, "test[1].parquet", [png(1)], [1])
    assert read_images(tmp_path / "test[1].parquet", "test").known_labels().tolist() == [1]


def test_the_hub_is_asked_through_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refused(source: str, **_: Any) -> pl.LazyFrame:
        asked.append(source)
        raise pl.exceptions.ComputeError("error sending request\nmore")

    monkeypatch.setattr(pl, "scan_parquet", refused)
    address = "hf://datasets/uoft-cs/cifar10"
    with pytest.raises(
        DataError, match=rf"^expected to list {address}/\*\*/.*request; check [^\n]*$"
    ):
        read_images(address, "test")
    with pytest.raises(DataError, match="error sending request"):
        read_images(f"{address}/plain_text/test-*.parquet", "test")
    assert asked == [f"{address}/**/*.parquet", f"{address}/plain_text/test-*.parquet"]


def test_files_of_the_hub_are_read_like_local_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "plain_text/train-0.parquet", [png(0)], [0])
    write(tmp_path, "plain_text/test-0.parquet", [png(1), png(2)], [1, 2])
    address = "hf://datasets/owner/name"
    scan = pl.scan_parquet

    def downloaded(source: str, **options: Any) -> pl.LazyFrame:
        return scan(source.replace(address, str(tmp_path)), **options)

    monkeypatch.setattr(pl, "scan_parquet", downloaded)
    for given in (address, f"{address}/", f"{address}/plain_text/*.parquet"):
        images = read_images(given, "test", count=1)
        assert (images.name, images.split) == ("owner/name", "test")
        assert images.known_labels().tolist() == [1]
        assert images.class_names == tuple(CLASSES)


def test_files_on_the_hub_are_told_apart_as_local_ones() -> None:
    root = "hf://datasets/uoft-cs/cifar100"
    for base in (root, "https://huggingface.co/datasets/uoft-cs/cifar100/resolve/main"):
        paths = [f"{base}/cifar100/{split}-00000-of-00001.parquet" for split in ("test", "train")]
        assert best_place(paths, root) == {"test": paths[:1], "train": paths[1:]}
    assert dataset_name(f"{root}/cifar100/test-0.parquet") == "uoft-cs/cifar100"


@pytest.mark.parametrize(
    ("columns"),
    [("image", "labels"), ("images", "target"), ("pixel_values", "class"), ("Img", "Label")],
)
def test_the_usual_columns_are_found(tmp_path: Path, columns: tuple[str, str]) -> None:
    write_parquet(tmp_path / "test.parquet", [png(0)], [1], classes=CLASSES, columns=columns)
    images = read_images(tmp_path, "test")
    assert images.known_labels().tolist() == [1]
    assert images.class_names == tuple(CLASSES)


def test_columns_may_be_named(tmp_path: Path) -> None:
    columns = ("picture", "coarse_label")
    write_parquet(tmp_path / "test.parquet", [png(0)], [1], classes=CLASSES, columns=columns)
    with pytest.raises(DataError, match=r"found picture, coarse_label; give image_column"):
        read_images(tmp_path, "test")
    images = read_images(tmp_path, "test", image_column="picture", label_column="coarse_label")
    assert images.class_names == tuple(CLASSES)
    with pytest.raises(DataError, match=r"label_column: .* has coarse_label, picture; found coars"):
        read_images(tmp_path, "test", image_column="picture", label_column="coars_label")


def test_images_may_be_bytes_or_lists_of_numbers(tmp_path: Path) -> None:
    pixels = noise(2, 6, 5, 3)
    containers: dict[str, pl.Series] = {
        "bytes": pl.Series([encoded(image) for image in pixels]),
        "rows": pl.Series(pixels.tolist()),
        "channels_first": pl.Series(pixels.transpose(0, 3, 1, 2).tolist()),
        "array": pl.Series(pixels),
    }
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for name, column in containers.items():
        frame = pl.DataFrame({"image": column, "label": [0, 1]})
        frame.write_parquet(tmp_path / f"{name}.parquet")
        assert torch.equal(read_images(tmp_path / f"{name}.parquet", "test").images, expected), name


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a", "b"], "column image of .*, found String"),
        ([[[0.5, 0.1]], [[0.2, 0.3]]], r"row 0, found float64; .*\(x \* 255\)"),
        ([[[1, 2], [3, 4]], [[1, 2], [3]]], "rows of equal length in .*row 1"),
        ([[[1, 2], [3, 4]], [[1, 2], [3, 256]]], "row 1, found numbers from 1 to 256"),
        ([[1, 2], [3, 4]], "row 0, found 2$"),
        ([[[1, 2], [3, 4]], None], "expected an image in .*row 1, found none"),
        ([png(0), None], "row 1; it is corrupt or missing: it is missing"),
        ([png(0), b""], "row 1; it is corrupt or missing: it is empty"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, column: Any, message: str) -> None:
    frame = pl.DataFrame({"image": column, "label": [0, 1]})
    frame.write_parquet(tmp_path / "test.parquet")
    with pytest.raises(DataError, match=message):
        read_images(tmp_path, "test")


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (pl.Series(["dog", "cat", "dog"]), [1, 0, 1], ("cat", "dog")),
        (pl.Series(["dog", "cat", "dog"], dtype=pl.Categorical), [1, 0, 1], ("cat", "dog")),
        (pl.Series([True, False, True]), [1, 0, 1], ("false", "true")),
        (pl.Series([2, 0, 1], dtype=pl.UInt8), [2, 0, 1], ("0", "1", "2")),
    ],
)
def test_labels_of_any_kind(
    tmp_path: Path, labels: pl.Series, numbers: list[int], names: tuple[str, ...]
) -> None:
    write_parquet(tmp_path / "test.parquet", [png(0)] * 3, labels)
    images = read_images(tmp_path, "test")
    assert images.known_labels().tolist() == numbers
    assert images.class_names == names
    told = "the labels are texts: classes are numbered alphabetically, cat = 0, dog = 1"
    assert images.remarks == ((told,) if "cat" in names else ())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None], "expected a label in .*row 1, found none"),
        (["cat", None], "expected a label in .*row 1, found none"),
        ([0.0, 1.0], "found Float64"),
        ([0, 2**40], "number the classes from 0, found 1099511627776"),
    ],
)
def test_labels_that_name_no_class_are_refused(
    tmp_path: Path, labels: list[Any], message: str
) -> None:
    write_parquet(tmp_path / "test.parquet", [png(0), png(1)], labels)
    with pytest.raises(DataError, match=message):
        read_images(tmp_path, "test")


def test_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [png(0)] * 3, ["a", "b", "c"])
    write_parquet(tmp_path / "test.parquet", [png(0)] * 2, ["a", "c"])
    images = read_images(tmp_path, "test")
    assert images.class_names == ("a", "b", "c")
    assert images.known_labels().tolist() == [0, 2]
    assert any("missing: b" in remark for remark in images.remarks)


def test_the_row_is_counted_within_its_file(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0)] * 3, [0] * 3)
    write(tmp_path, "test-1.parquet", [png(0), b"bad"], [0, 0])
    with pytest.raises(DataError, match=r"test-1\.parquet, row 1"):
        read_images(tmp_path, "test")
    write(tmp_path, "test-1.parquet", [png(0), png(1)], [0, 7])
    with pytest.raises(DataError, match=r"found 7 in .*test-1\.parquet, row 1"):
        read_images(tmp_path, "test")
    assert len(read_parquet(tmp_path, "test", ImageRequest(count=4))) == 4


def test_a_file_without_the_columns_of_the_first_is_named(tmp_path: Path) -> None:
    write(tmp_path, "test-0.parquet", [png(0)], [0])
    write_parquet(tmp_path / "test-1.parquet", [png(0)], [0], columns=("image", "label"))
    with pytest.raises(DataError, match=r"img and label in .*test-1.*, found image, label"):
        read_images(tmp_path, "test")


def test_a_thousand_classes_of_full_size_pictures(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(1000)]
    jpeg = encoded(noise(1, 240, 300, 3)[0], "JPEG")
    gray = encoded(noise(1, 300, 240)[0], "JPEG")
    write_parquet(tmp_path / "validation.parquet", [jpeg, gray], [999, 0], classes=names)
    images = read_images(tmp_path, "test", geometry=Geometry(resize=256, crop=224))
    assert images.images.shape == (2, 3, 224, 224)
    assert images.known_labels().tolist() == [999, 0]
    assert len(images.class_names) == 1000
