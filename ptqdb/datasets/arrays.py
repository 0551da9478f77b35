"""Images from arrays of numbers: ``.npz`` files and nested lists in Parquet."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image

from ptqdb.datasets.decoding import Picture, PixelBlock, Pixels, row_names
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.labels import class_numbers, notes_on_classes, read_class_names
from ptqdb.datasets.npz_file import NpzFile
from ptqdb.datasets.request import AS_IT_IS, ImageRequest
from ptqdb.datasets.splits import EVERY_SPLIT, SPLIT_WORDS, notes_on, stand_ins
from ptqdb.errors import DataError
from ptqdb.support.closest import closest_first

_IMAGE_WORDS = ("images", "image", "x", "data")
_LABEL_WORDS = ("labels", "label", "y", "targets", "target")
_CLASS_WORDS = ("class_names", "classes")
_CHANNEL_COUNTS = (1, 3)


def read_npz(path: Path, split: str, request: ImageRequest | None = None) -> ImageSet:
    """Read the images of an ``.npz`` file of NumPy arrays.

    The arrays are named after the split (``x_test`` and ``y_test``, ``test_images`` and
    ``test_labels``, also with ``train``, ``val``, ``validation``), or ``images`` and ``labels`` for
    every split; ``--image-column`` and ``--label-column`` name others. Images are whole numbers
    from 0 to 255, (N, height, width), (N, height, width, channels) or (N, channels, height, width);
    labels are (N,) or (N, 1). Class names may be given as ``class_names``. For images without
    labels only the array of images is required.

    Raises
    ------
    DataError
        Not an ``.npz`` file, missing arrays, pickled objects, values that are not pixels, an
        ambiguous order of axes, labels of another length or out of range.
    """
    request = request or ImageRequest()
    with NpzFile(path) as arrays:
        return _read(path, arrays, split, request)


def _read(
    path: Path, arrays: Mapping[str, NDArray[Any]], split: str, request: ImageRequest
) -> ImageSet:
    taken, image_key, label_key = _keys(path, arrays, split, request)
    pixels = _checked_pixels(arrays[image_key], f"{image_key} of {path}")
    if not len(pixels):
        raise DataError(f"expected images, found none in {image_key} of {path}")
    name = request.name or path.stem
    count = request.taken(len(pixels), f"{name} {taken}")
    images = ImageSet(
        name,
        taken,
        _as_block(pixels[:count], path, request),
        None,
        (),
        notes_on(split, taken, path),
    )
    if label_key is None:
        return images
    labels = _flat_labels(arrays[label_key], f"{label_key} of {path}")
    if len(pixels) != len(labels):
        raise DataError(
            f"expected as many labels as images in {path}, found {len(labels)} in {label_key} "
            f"and {len(pixels)} in {image_key}"
        )
    class_names = _class_names(arrays, label_key)
    numbers = class_numbers(labels.head(count), class_names, row_names(path))
    notes = (*images.notes, *notes_on_classes(labels, class_names))
    return replace(images, labels=torch.from_numpy(numbers), class_names=class_names, notes=notes)


def array_picture(array: NDArray[Any], origin: str) -> Picture:
    """Return a picture from one array: height and width, with or without channels.

    Raises
    ------
    DataError
        Values that are not pixels, or an ambiguous order of axes.
    """
    return _picture(_checked_pixels(array[None], origin)[0], origin)


def _picture(pixels: Pixels, origin: str) -> Picture:
    """A picture from uint8 (height, width, channels)."""
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Picture(origin, lambda: Image.fromarray(np.ascontiguousarray(flat)))


def _keys(
    path: Path, arrays: Mapping[str, NDArray[Any]], split: str, request: ImageRequest
) -> tuple[str, str, str | None]:
    """The split that is read, and its arrays of images and, if requested, of labels."""
    by_name = {key.lower(): key for key in arrays}
    found: dict[str, tuple[str | None, str | None]] = {}
    for word in (*SPLIT_WORDS, EVERY_SPLIT):
        image = request.image_column or _key(by_name, word, _IMAGE_WORDS)
        label = request.label_column or _key(by_name, word, _LABEL_WORDS)
        found[word] = (image, label)
    for wanted, option in (
        (request.image_column, "--image-column"),
        (request.label_column, "--label-column"),
    ):
        if wanted is not None and wanted not in arrays:
            names = ", ".join(closest_first(wanted, arrays))
            raise DataError(
                f"{option}: expected an array of {path}, which has {names}; found {wanted}"
            )
    if request.image_column and (request.label_column or not request.labelled):
        return EVERY_SPLIT, request.image_column, request.label_column
    present = {
        word: (image, label if request.labelled else None)
        for word, (image, label) in found.items()
        if image and (label or not request.labelled)
    }
    for word in stand_ins(split, present):
        return word, *present[word]
    usual, options = f"{split}_images, x_{split} or images", "--image-column"
    if request.labelled:
        usual = f"{split}_images and {split}_labels, x_{split} and y_{split}, or images and labels"
        options = "--image-column and --label-column"
    raise DataError(
        f"expected arrays such as {usual} in {path}, found {', '.join(arrays) or 'none'}; "
        f"give {options}"
    )


def _key(by_name: dict[str, str], split: str, words: tuple[str, ...]) -> str | None:
    for word in words:
        names = [word] if split == EVERY_SPLIT else [f"{split}_{word}", f"{word}_{split}"]
        for name in names:
            if name in by_name:
                return by_name[name]
    return None


def _checked_pixels(array: NDArray[Any], what: str) -> Pixels:
    """Return uint8 (N, height, width, channels), a view if possible.

    Raises
    ------
    DataError
        Floats, values outside 0..255, or axes that allow no or two positions of the channels.
    """
    if array.dtype.kind not in "iu":
        raise DataError(
            f"expected whole numbers from 0 to 255 as pixels in {what}, found {array.dtype}; "
            "convert images in 0..1 by (x * 255).round().astype('uint8')"
        )
    if array.dtype != np.uint8 and array.size and (array.min() < 0 or array.max() > 255):
        raise DataError(
            f"expected pixels from 0 to 255 in {what}, found numbers from {array.min()} to "
            f"{array.max()}"
        )
    if len(array) and not array.size:
        shape = " x ".join(map(str, array.shape[1:]))
        raise DataError(f"expected pictures with pixels in {what}, found {shape}")
    pixels = array.astype(np.uint8, copy=False)
    if pixels.ndim == 3:
        return pixels[..., None]
    if pixels.ndim != 4:
        shape = " x ".join(map(str, array.shape[1:])) or "single numbers"
        raise DataError(
            f"expected images of height x width, with channels first or last, in {what}, "
            f"found {shape}"
        )
    first, last = (pixels.shape[axis] in _CHANNEL_COUNTS for axis in (1, 3))
    if first == last:
        shape = " x ".join(map(str, array.shape[1:]))
        raise DataError(
            f"expected 1 or 3 channels either before or after height and width in {what}, "
            f"found {shape}, where {'both could be' if first else 'neither is'} the channels"
        )
    return pixels.transpose(0, 2, 3, 1) if first else pixels


def _flat_labels(array: NDArray[Any], what: str) -> pl.Series:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        shape = " x ".join(map(str, array.shape))
        raise DataError(
            f"expected one label per image in {what}, found {shape}; of one-hot labels store "
            "labels.argmax(axis=1)"
        )
    array = _texts(array, what)
    if array.dtype.kind not in "iubU":
        raise DataError(
            f"expected labels that are whole numbers, texts or booleans in {what}, "
            f"found {array.dtype}"
        )
    return pl.Series(array.tolist() if array.dtype.kind == "U" else array)


def _class_names(arrays: Mapping[str, NDArray[Any]], label_key: str) -> tuple[str, ...]:
    """As declared, else from the labels of all splits with the same naming."""
    for word in _CLASS_WORDS:
        if word in arrays and arrays[word].dtype.kind in "US" and arrays[word].ndim == 1:
            return tuple(_texts(arrays[word], word).tolist())
    pattern = _without_split(label_key)
    alike = [array for key, array in arrays.items() if _without_split(key) == pattern]
    return read_class_names(_flat_labels(array, label_key) for array in alike)


def _texts(array: NDArray[Any], what: str) -> NDArray[Any]:
    try:
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 text in {what}, found other bytes") from error


def _without_split(key: str) -> str:
    return "_".join(part for part in key.lower().split("_") if part not in SPLIT_WORDS)


def _as_block(pixels: Pixels, path: Path, request: ImageRequest) -> torch.Tensor:
    """uint8 (N, channels, height, width)."""
    if request.geometry == AS_IT_IS and request.channels in (None, pixels.shape[3]):
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    block = PixelBlock(len(pixels), request)
    origin = row_names(path)
    block.extend(_picture(image, origin(row)) for row, image in enumerate(pixels))
    return block.images()
