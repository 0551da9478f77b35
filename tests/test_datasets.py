"""Images from Parquet, and what is said of bad ones."""

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from ptqdb.datasets import cut, normalized, read_parquet
from ptqdb.errors import DataError

CLASSES = ["cat", "dog", "ship"]


def png(seed: int, size: int = 6) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write(
    folder: Path, name: str, images: list[bytes], labels: list[int], *, classes: bool = True
) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    features = {"label": {"_type": "ClassLabel", "names": CLASSES}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if classes else {}
    frame = pl.DataFrame(
        {"img": [{"bytes": data, "path": None} for data in images], "label": labels},
        schema={
            "img": pl.Struct({"bytes": pl.Binary, "path": pl.String}),
            "label": pl.Int64,
        },
    )
    frame.write_parquet(path, metadata=metadata)
    return path


def test_pixels_labels_and_class_names_are_those_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, "test-00000-of-00002.parquet", [png(0), png(1)], [2, 0])
    write(tmp_path, "test-00001-of-00002.parquet", [png(2)], [1])
    images = read_parquet(tmp_path, "test", name="toy")
    assert images.images.shape == (3, 3, 6, 6)
    expected = np.random.default_rng(2).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    assert np.array_equal(images.images[2].permute(1, 2, 0).numpy(), expected)
    assert images.labels.tolist() == [2, 0, 1]
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
    found = normalized(images, torch.tensor([0.2]), torch.tensor([0.5]))
    assert torch.allclose(found.flatten(), torch.tensor([-0.4, 0.0, 1.6]), atol=1e-6)
