"""Decode many pictures into one block of pixels, in threads; errors name the picture."""

import io
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ptqdb.datasets.geometry import eight_bit, fit_picture
from ptqdb.datasets.request import ImageRequest
from ptqdb.errors import DataError
from ptqdb.support.paths import regular_file

Pixels = NDArray[np.uint8]
# Errors that PIL raises on damaged files, including undocumented ones.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    struct.error,
    zlib.error,
    MemoryError,
    OverflowError,
    RecursionError,
    Image.DecompressionBombError,
)
_WINDOW = 256
_TASK = 16  # pictures per task: decoding a small one is faster than starting a task


@dataclass(frozen=True)
class Picture:
    """A picture not yet decoded.

    Attributes
    ----------
    origin
        File and row, for messages.
    open
        Returns the picture; may raise any error of PIL.
    """

    origin: str
    open: Callable[[], Image.Image]


def encoded_picture(data: bytes | None, origin: str) -> Picture:
    """Return a picture from the bytes of a PNG, a JPEG or another known format."""

    def opened() -> Image.Image:
        if not data:
            raise OSError("it is missing" if data is None else "it is empty")
        return Image.open(io.BytesIO(data))

    return Picture(origin, opened)


def picture_file(path: Path) -> Picture:
    """Return a picture from a file."""

    def opened() -> Image.Image:
        # Read whole: PIL leaves a file open if decoding fails.
        data = regular_file(path).read_bytes()
        if not data:
            raise OSError("it is empty")
        return Image.open(io.BytesIO(data))

    return Picture(str(path), opened)


def row_names(path: str | Path) -> Callable[[int], str]:
    """Return a function that names the rows of a file in messages, counted from 0."""
    return lambda row: f"{path}, row {row}"


class PixelBlock:
    """uint8 pixels (N, channels, height, width), filled picture by picture, allocated once.

    A mix of grayscale and RGB becomes RGB.

    Parameters
    ----------
    count
        Number of pictures.
    request
        Geometry and channels.
    """

    def __init__(self, count: int, request: ImageRequest) -> None:
        self._count = count
        self._request = request
        self._pixels: Pixels | None = None
        self._filled = 0
        self._first_origin = ""

    def extend(self, pictures: Iterable[Picture], *, threads: int | None = None) -> None:
        """Decode pictures and append them; uses torch's number of threads by default.

        Raises
        ------
        DataError
            A picture is corrupt, or differs in size from the first; the message names it.
        """
        remaining = iter(pictures)
        with ThreadPoolExecutor(threads or torch.get_num_threads()) as pool:
            # In windows, to limit the memory of decoded pictures.
            while window := list(islice(remaining, _WINDOW)):
                tasks = [window[start : start + _TASK] for start in range(0, len(window), _TASK)]
                for task, decoded in zip(tasks, pool.map(self._decoded_all, tasks), strict=True):
                    for picture, pixels in zip(task, decoded, strict=True):
                        self._append(pixels, picture.origin)

    def images(self) -> torch.Tensor:
        """The pixels, after all pictures were appended."""
        if self._pixels is None or self._filled != self._count:
            raise RuntimeError(f"expected {self._count} pictures, found {self._filled}")
        return torch.from_numpy(self._pixels)

    def _decoded_all(self, pictures: Sequence[Picture]) -> list[Pixels]:
        return [self._decoded(picture) for picture in pictures]

    def _decoded(self, picture: Picture) -> Pixels:
        """(channels, height, width)."""
        try:
            with picture.open() as image:
                cut = fit_picture(eight_bit(image, self._request.channels), self._request.geometry)
                pixels = np.asarray(cut)
        except DataError as error:
            raise DataError(f"{picture.origin}: expected {error}") from error
        except _DECODING_ERRORS as error:
            raise DataError(
                f"expected an image in {picture.origin}; it is corrupt or missing: {_reason(error)}"
            ) from error
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _append(self, pixels: Pixels, origin: str) -> None:
        if self._pixels is None:
            self._pixels = np.empty((self._count, *pixels.shape), np.uint8)
            self._first_origin = origin
        if pixels.shape[1:] != self._pixels.shape[2:]:
            raise DataError(
                f"expected images of one size, found {_size(self._pixels)} in "
                f"{self._first_origin} and {_size(pixels)} in {origin}; "
                "give --resize and --crop to make them equal"
            )
        if pixels.shape[0] > self._pixels.shape[1]:
            self._pixels = np.repeat(self._pixels, 3, axis=1)
        self._pixels[self._filled] = pixels  # broadcasts one channel to three
        self._filled += 1


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[-1]} x {pixels.shape[-2]}"


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its format is not known"  # PIL's message contains a memory address
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
