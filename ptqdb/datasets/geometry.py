"""Resize and crop pictures as torchvision does, and convert them to 8 bits per channel."""

import numpy as np
from PIL import Image

from ptqdb.datasets.preprocessing import Geometry
from ptqdb.errors import DataError

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_GRAYSCALE_MODES = ("1", "L", "LA", "La")
_WIDE_MODES = ("I", "F")


def fit_picture(image: Image.Image, geometry: Geometry) -> Image.Image:
    """Resize a picture by its shorter edge, then crop its centre.

    Gives the same pixels as torchvision's ``Resize`` and ``CenterCrop`` on PIL images: the longer
    edge is truncated to whole pixels, the corner of the crop is rounded half to even.

    Raises
    ------
    DataError
        The crop is larger than the picture (torchvision would pad with black).
    """
    if geometry.resize is not None:
        image = _resized(image, geometry.resize, RESAMPLING[geometry.interpolation])
    if geometry.crop is None:
        return image
    width, height = image.size
    if geometry.crop > min(width, height):
        raise DataError(
            f"a picture of at least {geometry.crop} x {geometry.crop} pixels to crop, found "
            f"{width} x {height}; give --resize {geometry.crop}, or a smaller --crop"
        )
    left = round((width - geometry.crop) / 2)
    top = round((height - geometry.crop) / 2)
    if (left, top, geometry.crop, geometry.crop) == (0, 0, width, height):
        return image
    return image.crop((left, top, left + geometry.crop, top + geometry.crop))


def _resized(image: Image.Image, shorter_edge: int, resampling: Image.Resampling) -> Image.Image:
    width, height = image.size
    longer_edge = int(shorter_edge * max(width, height) / min(width, height))
    size = (shorter_edge, longer_edge) if width <= height else (longer_edge, shorter_edge)
    return image if size == (width, height) else image.resize(size, resampling)


def eight_bit(image: Image.Image, channels: int | None) -> Image.Image:
    """Convert a picture to mode ``L`` or ``RGB``.

    Grayscale stays grayscale unless 3 channels are requested; 16-bit grayscale keeps its upper 8
    bits; transparency is dropped. The EXIF orientation is ignored, as in torchvision.

    Raises
    ------
    DataError
        The picture has 32-bit pixels, whose range is unknown.
    """
    if image.mode in _WIDE_MODES:
        raise DataError(
            "a picture of 8 or 16 bits per channel, found 32-bit pixels; convert it to 8 bits"
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # converting directly gives the same colours, but PIL warns
    natural = "L" if image.mode in _GRAYSCALE_MODES else "RGB"
    mode = natural if channels is None else {1: "L", 3: "RGB"}[channels]
    return image if image.mode == mode else image.convert(mode)
