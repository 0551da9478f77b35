"""Images from anywhere: the same pixels are the same images, and bad specs are explained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, noise, write_class_folders, write_parquet
from PIL import Image

from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Geometry
from ptqdb.datasets.reading import read_images
from ptqdb.errors import DataError, UsageError

CLASSES = ("cat", "dog", "ship")


@settings(max_examples=15, deadline=None)
@given(
    per_class=st.integers(1, 3),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    channels=st.sampled_from([1, 3]),
    crop=st.sampled_from([None, 4]),
    seed=st.integers(0, 99),
)
def test_the_container_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory,
    per_class: int,
    height: int,
    width: int,
    channels: int,
    crop: int | None,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("containers")
    # A folder gives its classes in turn, so the others are written in that order.
    labels = np.tile(np.arange(3), per_class)
    pixels = noise(len(labels), height, width, channels, seed=seed)
    pictures = pixels[..., 0] if channels == 1 else pixels
    write_class_folders(folder / "png" / "test", list(pictures), labels.tolist(), CLASSES)
    write_parquet(
        folder / "hub" / "test-0.parquet",
        [encoded(picture) for picture in pictures],
        labels.tolist(),
        classes=CLASSES,
    )
    names = np.array(CLASSES)
    np.savez(folder / "nhwc.npz", test_images=pixels, test_labels=labels, class_names=names)
    np.savez(
        folder / "nchw.npz", x_test=pixels.transpose(0, 3, 1, 2), y_test=labels, class_names=names
    )
    found = [
        read_images(folder / source, "test", geometry=Geometry(crop=crop))
        for source in ("png", "hub", "nhwc.npz", "nchw.npz")
    ]
    assert len({images.content_sha256 for images in found}) == 1
    for images in found:
        assert images.class_names == CLASSES
        assert images.images.shape == (len(labels), channels, crop or height, crop or width)
        assert images.remarks == ()
    if crop is None:
        assert np.array_equal(found[0].images.permute(0, 2, 3, 1).numpy(), pixels)


def test_a_part_is_the_head_of_the_whole(tmp_path: Path) -> None:
    labels = [0, 1, 2, 0, 1]
    pixels = noise(5, 6, 6, 3)
    write_class_folders(tmp_path / "png", list(pixels), labels, CLASSES)
    write_parquet(tmp_path / "hub" / "test-0.parquet", [encoded(p) for p in pixels[:2]], labels[:2])
    write_parquet(tmp_path / "hub" / "test-1.parquet", [encoded(p) for p in pixels[2:]], labels[2:])
    np.savez(tmp_path / "file.npz", images=pixels, labels=labels)
    for source in ("png", "hub", "file.npz"):
        whole = read_images(tmp_path / source, "test")
        assert len(whole) == 5
        for count in (1, 2, 3, 5):
            part = read_images(tmp_path / source, "test", count=count)
            assert part.content_sha256 == whole.head(count).content_sha256
            assert part.class_names == whole.class_names
        assert len(read_images(tmp_path / source, "test", at_most=4)) == 4
        assert len(read_images(tmp_path / source, "test", at_most=9)) == 5
        with pytest.raises(DataError, match=r"between 1 and 5 images.*found 6"):
            read_images(tmp_path / source, "test", count=6)


def test_rows_past_the_count_are_not_decoded(tmp_path: Path) -> None:
    good = encoded(noise(1, 6, 6, 3)[0])
    write_parquet(tmp_path / "test-0.parquet", [good, good, b"bad"], [0, 0, 0])
    assert len(read_images(tmp_path, "test", count=2)) == 2
    with pytest.raises(DataError, match="row 2"):
        read_images(tmp_path, "test", count=3)


def test_channels_may_be_forced(tmp_path: Path) -> None:
    gray = noise(2, 5, 5)
    np.savez(tmp_path / "gray.npz", images=gray, labels=[0, 1])
    found = read_images(tmp_path / "gray.npz", "test", channels=3)
    assert np.array_equal(found.images.numpy(), np.repeat(gray[:, None], 3, axis=1))
    write_parquet(tmp_path / "rgb" / "test.parquet", [encoded(noise(1, 5, 5, 3)[0])], [0])
    assert read_images(tmp_path / "rgb", "test", channels=1).images.shape == (1, 1, 5, 5)
    with pytest.raises(UsageError, match="found 2"):
        read_images(tmp_path / "rgb", "test", channels=2)


@pytest.mark.parametrize("gray_first", [True, False])
def test_grayscale_among_rgb_becomes_rgb(tmp_path: Path, gray_first: bool) -> None:
    gray, colour = noise(1, 5, 5)[0], noise(1, 5, 5, 3)[0]
    pair = [gray, colour] if gray_first else [colour, gray]
    write_parquet(tmp_path / "test.parquet", [encoded(pixels) for pixels in pair], [0, 1])
    found = read_images(tmp_path, "test", geometry=Geometry(resize=7)).images
    alone = read_images(tmp_path, "test", geometry=Geometry(resize=7), channels=3).images
    assert found.shape == (2, 3, 7, 7)
    assert torch.equal(found, alone)


def test_many_pictures_keep_their_order(tmp_path: Path) -> None:
    pixels = noise(700, 4, 4)  # more than one window of decoding
    write_parquet(tmp_path / "test.parquet", [encoded(p) for p in pixels], [0] * 700)
    assert np.array_equal(read_images(tmp_path, "test").images[:, 0].numpy(), pixels)


def test_missing_classes_are_remarked() -> None:
    images = ImageSet(
        "toy",
        "test",
        torch.zeros(4, 1, 2, 2, dtype=torch.uint8),
        torch.tensor([0, 0, 1, 2]),
        tuple("abc"),
        ("a note",),
    )
    assert images.remarks == ("a note",)
    assert images.head(2).remarks == (
        "a note",
        "the 2 images of toy test cover 1 of 3 classes; missing: b, c",
    )


def test_the_orientation_that_a_camera_noted_is_ignored(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    (tmp_path / "cat").mkdir()
    image = Image.fromarray(noise(1, 8, 16, 3)[0])
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "cat" / "a.jpg", exif=exif, quality=95)
    found = read_images(tmp_path, "test").images[0]
    assert found.shape == (3, 8, 16)
    expected = np.asarray(datasets.ImageFolder(tmp_path)[0][0])
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


def test_what_is_no_dataset_is_explained(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(DataError, match=r"\.parquet or \.npz.*found the file .*images\.zip"):
        read_images(tmp_path / "images.zip", "test")
    with pytest.raises(DataError, match="found nothing"):
        read_images(tmp_path / "empty", "test")
    with pytest.raises(DataError, match=r"one subfolder per class.*found notes\.txt"):
        read_images(tmp_path / "cifar10", "test")
    with pytest.raises(DataError, match=r"found no file or folder .*similar names there: cifar10"):
        read_images(tmp_path / "cifar1", "test")
    with pytest.raises(DataError, match=r"nor the folder .*elsewhere"):
        read_images(tmp_path / "elsewhere" / "cifar10", "test")
    with pytest.raises(DataError, match=r"Parquet files in .*\*\.parquet, found none"):
        read_images(tmp_path / "*.parquet", "test")


def test_a_bare_name_of_torchvision_is_recognised() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(DataError, match="did you mean torchvision's torchvision:FashionMNIST"):
        read_images("fashionmnist", "test")


def test_count_and_at_most_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found both"):
        read_images(tmp_path, "test", count=1, at_most=1)
