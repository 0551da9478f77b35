"""Pictures cut to a network's input size as torchvision cuts them, and to 8 bits a channel."""

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


def fitted(image: Image.Image, geometry: Geometry) -> Image.Image:
    """The picture resized by its shorter edge, then cropped at its centre.

    The same pixels as torchvision's ``Resize`` and ``CenterCrop`` on PIL images: the longer
    edge is cut to whole pixels, the crop's corner rounds half to even.

    Raises
    ------
    DataError
        The crop is larger than the picture (torchvision would fill up with black).
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
    """The picture in mode ``L`` or ``RGB``.

    Grayscale stays so unless 3 channels are asked for; 16-bit grayscale keeps its upper 8
    bits; transparency is dropped. The orientation that a camera may have noted is ignored, as
    torchvision ignores it.

    Raises
    ------
    DataError
        The picture has 32-bit pixels, whose range nobody tells.
    """
    if image.mode in _WIDE_MODES:
        raise DataError(
            "a picture of 8 or 16 bits a channel, found 32-bit pixels; convert it to 8 bits"
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns on the direct way; the colours are the same
    natural = "L" if image.mode in _GRAYSCALE_MODES else "RGB"
    mode = natural if channels is None else {1: "L", 3: "RGB"}[channels]
    return image if image.mode == mode else image.convert(mode)
