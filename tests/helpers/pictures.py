"""Seeded pictures, and the containers that hold them."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def noise(count: int, *shape: int, seed: int = 0) -> Pixels:
    """uint8 noise, (count, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def encoded(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """One picture as a file's bytes."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def write_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[Any] | pl.Series,
    *,
    classes: Sequence[str] = (),
    columns: tuple[str, str] = ("img", "label"),
) -> Path:
    """A file in the Hugging Face layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image_column, label_column = columns
    features = {label_column: {"_type": "ClassLabel", "names": list(classes)}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if classes else {}
    frame = pl.DataFrame(
        {
            image_column: pl.Series(
                [{"bytes": data, "path": None} for data in images],
                dtype=pl.Struct({"bytes": pl.Binary, "path": pl.String}),
            ),
            label_column: labels,
        }
    )
    frame.write_parquet(path.absolute(), metadata=metadata)
    return path


def write_class_folders(
    root: Path, images: Sequence[NDArray[Any]], labels: Sequence[int], classes: Sequence[str]
) -> Path:
    """``ROOT/CLASS/*.png``, numbered as they come."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        (root / classes[label] / f"{number:04}.png").write_bytes(encoded(pixels))
    return root
