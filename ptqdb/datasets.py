"""Labelled images in memory: read from Parquet in the Hugging Face layout, and cut for shipping."""

import hashlib
import io
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ptqdb.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class ImageSet:
    """One split of a dataset, decoded.

    Attributes
    ----------
    name
        The dataset's name, such as ``cifar10``.
    split
        ``train`` or ``test``.
    images
        uint8, (N, channels, height, width).
    labels
        int64, (N,), each in ``range(len(class_names))``.
    class_names
        One name per class, in the order of the labels.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 over the pixels, their shape and the labels: the identity of these images."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def head(self, count: int) -> "ImageSet":
        """The first images.

        Raises
        ------
        DataError
            There are fewer than that.
        """
        if not 1 <= count <= len(self):
            raise DataError(
                f"expected between 1 and {len(self)} images of {self.name} {self.split}, "
                f"found {count} asked for"
            )
        return replace(self, images=self.images[:count], labels=self.labels[:count])


def normalized(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 images ``(x / 255 - mean) / std``, in channels-last memory.

    Parameters
    ----------
    images
        uint8, (N, channels, height, width).
    mean, std
        float32, (channels,), in units of the full range 0..1.
    """
    scaled = images.to(mean.device).to(torch.float32, memory_format=torch.channels_last)
    return scaled.mul_((1.0 / (255.0 * std))[:, None, None]).sub_((mean / std)[:, None, None])


def read_parquet(folder: Path, split: str, *, name: str | None = None) -> ImageSet:
    """The images of the files ``{split}-*.parquet`` in a folder, in the order of their names.

    Parameters
    ----------
    folder
        Holds Parquet files in the Hugging Face layout: a struct column ``img`` with encoded
        ``bytes`` and an integer column ``label``; class names in the schema's metadata.
    name
        The dataset's name; the folder's by default.

    Raises
    ------
    DataError
        No such files, no such columns, a corrupt image or a label out of range; the message
        names the file and the row.
    """
    paths = sorted(folder.glob(f"{split}-*.parquet"))
    if not paths:
        raise DataError(f"expected {split}-*.parquet in {folder}, found none")
    parts = [_read_file(path) for path in paths]
    class_names = _class_names(paths[0])
    labels = torch.from_numpy(np.concatenate([part[1] for part in parts]))
    class_names = class_names or tuple(str(label) for label in range(int(labels.max()) + 1))
    for path, (_, part_labels) in zip(paths, parts, strict=True):
        bad = np.flatnonzero((part_labels < 0) | (part_labels >= len(class_names)))
        if len(bad):
            raise DataError(
                f"expected labels in 0..{len(class_names) - 1}, "
                f"found {part_labels[bad[0]]} in {path}, row {bad[0]}"
            )
    images = torch.from_numpy(np.concatenate([part[0] for part in parts]))
    return ImageSet(name or folder.name, split, images, labels, class_names)


def _read_file(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """uint8 images (N, channels, height, width) and int64 labels (N,) of one file."""
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.ComputeError, OSError) as error:
        raise DataError(f"expected a Parquet file, found {path}: {error}") from error
    image_column = _column(path, table, IMAGE_COLUMNS)
    label_column = _column(path, table, LABEL_COLUMNS)
    if not len(table):
        raise DataError(f"expected images, found none in {path}")
    encoded = table[image_column].struct.field("bytes")
    images = [_decoded(path, row, data) for row, data in enumerate(encoded)]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(f"expected images of one size in {path}, found {sorted(shapes)}")
    labels = table[label_column].cast(pl.Int64).to_numpy()
    return np.stack(images).transpose(0, 3, 1, 2), labels


def _column(path: Path, table: pl.DataFrame, names: tuple[str, ...]) -> str:
    for name in names:
        if name in table.columns:
            return name
    raise DataError(
        f"expected a column named {' or '.join(names)} in {path}, found {', '.join(table.columns)}"
    )


def _decoded(path: Path, row: int, data: bytes) -> np.ndarray[Any, Any]:
    """uint8 (height, width, channels)."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB"))
    except (UnidentifiedImageError, OSError, TypeError) as error:
        raise DataError(
            f"expected an image in {path}, row {row}; it is corrupt: {error}"
        ) from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _class_names(path: Path) -> tuple[str, ...]:
    """The names that the Hugging Face metadata gives to the label's classes, or none."""
    text = pl.read_parquet_metadata(path).get("huggingface")
    if not text:
        return ()
    features = json.loads(text)["info"]["features"]
    for column in LABEL_COLUMNS:
        if column in features and "names" in features[column]:
            return tuple(features[column]["names"])
    return ()


def cut(source: Path, split: str, count: int, target: Path) -> None:
    """Write the first images of a split to one Parquet file, bytes and metadata unchanged.

    Parameters
    ----------
    source, target
        Folders; the file is ``{split}-00000-of-00001.parquet`` in the target.
    """
    paths = sorted(source.glob(f"{split}-*.parquet"))
    if not paths:
        raise DataError(f"expected {split}-*.parquet in {source}, found none")
    table = pl.concat([pl.scan_parquet(path) for path in paths]).head(count).collect()
    metadata = {
        key: value
        for key, value in pl.read_parquet_metadata(paths[0]).items()
        if key == "huggingface"
    }
    target.mkdir(parents=True, exist_ok=True)
    table.write_parquet(
        target / f"{split}-00000-of-00001.parquet", compression="zstd", metadata=metadata
    )
