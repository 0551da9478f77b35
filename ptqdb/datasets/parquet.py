"""Read images from Parquet in the Hugging Face layout, and write a subset to ship."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ptqdb.datasets.arrays import array_picture
from ptqdb.datasets.decoding import Picture, PixelBlock, encoded_picture, row_names
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.labels import (
    class_numbers,
    declared_names,
    notes_on_classes,
    read_class_names,
)
from ptqdb.datasets.parquet_files import (
    REMOTE,
    Files,
    dataset_name,
    location,
    parquet_files,
    web_address,
)
from ptqdb.datasets.request import ImageRequest
from ptqdb.datasets.splits import notes_on, stand_ins
from ptqdb.errors import DataError
from ptqdb.support.closest import closest_first
from ptqdb.support.paths import make_folder, without_magic, write_beside

IMAGE_COLUMNS = ("img", "image", "images", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "class")


def read_parquet(
    source: str | Path,
    split: str,
    request: ImageRequest | None = None,
    *,
    name: str | None = None,
) -> ImageSet:
    """Read the images of a split's Parquet files, in the order of the file names.

    Parameters
    ----------
    source
        A folder, a file, a glob or an ``hf://`` address; see ``parquet_files``. Images are structs
        with encoded ``bytes`` (the Hugging Face layout), encoded bytes alone, or nested lists of
        numbers; labels are whole numbers, texts or booleans. Class names come from the schema's
        metadata. For images without labels only the image column is read.
    split
        ``train`` or ``test``; ``validation`` replaces a test split that is absent or has no labels.
    request
        Number of images, their form, and the columns.
    name
        The dataset's name; by default that of the folder.

    Raises
    ------
    DataError
        No such files or columns, a missing or corrupt image, a label out of range; the message
        names the file and the row.
    """
    request = request or ImageRequest()
    source = str(source)
    files = parquet_files(source)
    words = stand_ins(split, files)
    if not words:
        raise DataError(
            f"expected {split}-*.parquet in {source}, found only files of "
            f"{', '.join(sorted(files))}"
        )
    columns = _columns(files[words[0]][0], request)
    taken, labels = words[0], _labels(files[words[0]], columns)
    for word in words[1:]:
        if columns.label is None or _is_labelled(labels):
            break
        taken, labels = word, _labels(files[word], columns)
    name = (
        name
        or request.name
        or dataset_name(source if source.startswith(REMOTE) else files[taken][0])
    )
    count = request.taken(sum(map(len, labels)), f"{name} {taken}")
    images = ImageSet(
        name,
        taken,
        _images(files[taken], [len(part) for part in labels], count, columns, request),
        labels=None,
        class_names=(),
        notes=notes_on(split, taken, source),
    )
    if columns.label is None:
        return images
    class_names = _declared_classes(files[taken][0], columns.label) or _classes(
        files, taken, labels, columns
    )
    return replace(
        images,
        labels=_class_numbers(files[taken], labels, class_names, count),
        class_names=class_names,
        notes=(*images.notes, *notes_on_classes(labels[0], class_names)),
    )


@dataclass(frozen=True)
class _Columns:
    """Columns of a file; no label if none is requested."""

    image: str
    label: str | None


def _scanned(path: str) -> pl.LazyFrame:
    return pl.scan_parquet(location(path), glob=False)


def _collected(frame: pl.LazyFrame, path: str) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"expected a Parquet file, found {path}: {str(error).splitlines()[0]}"
        ) from error


def _columns(path: str, request: ImageRequest) -> _Columns:
    found = _collected(_scanned(path).head(0), path).columns
    image = _column(path, found, IMAGE_COLUMNS, request.image_column, "--image-column")
    if not request.labelled:
        return _Columns(image, None)
    label = _column(path, found, LABEL_COLUMNS, request.label_column, "--label-column")
    return _Columns(image, label)


def _column(
    path: str, found: list[str], usual: tuple[str, ...], wanted: str | None, option: str
) -> str:
    if wanted is not None:
        if wanted in found:
            return wanted
        names = ", ".join(closest_first(wanted, found))
        raise DataError(f"{option}: expected a column of {path}, which has {names}; found {wanted}")
    by_lowercase = {name.lower(): name for name in reversed(found)}
    for name in usual:
        if name in by_lowercase:
            return name if name in found else by_lowercase[name]
    raise DataError(
        f"expected a column named {' or '.join(usual)} in {path}, found {', '.join(found)}; "
        f"give {option}"
    )


def _labels(paths: list[str], columns: _Columns) -> list[pl.Series]:
    """All labels of each file (one column reads fast); NULLs if none are requested."""
    wanted = [name for name in (columns.image, columns.label) if name is not None]
    labels = []
    for path in paths:
        names = _collected(_scanned(path).head(0), path).columns
        if not set(wanted) <= set(names):
            raise DataError(
                f"expected the columns {' and '.join(wanted)} in {path}, as in {paths[0]}, "
                f"found {', '.join(names)}"
            )
        if columns.label is None:
            rows = _collected(_scanned(path).select(pl.len()), path).item()
            labels.append(pl.repeat(None, rows, eager=True))
        else:
            labels.append(_collected(_scanned(path).select(columns.label), path)[columns.label])
    if not sum(map(len, labels)):
        raise DataError(f"expected images, found none in {', '.join(paths)}")
    return labels


def _is_labelled(labels: list[pl.Series]) -> bool:
    """Whether any label is neither -1 nor null, which mark a test split with hidden labels."""
    return any(
        not part.dtype.is_integer() or bool((part.drop_nulls() != -1).any()) for part in labels
    )


def _classes(
    files: Files, taken: str, labels: list[pl.Series], columns: _Columns
) -> tuple[str, ...]:
    """The classes of all splits: a class missing from one must not shift the others."""
    labels = list(labels)
    for split, paths in files.items():
        if split != taken:
            try:
                labels += _labels(paths, columns)
            except DataError:
                continue  # another split may lack labels
    return read_class_names(labels)


def _class_numbers(
    paths: list[str], labels: list[pl.Series], class_names: tuple[str, ...], count: int
) -> torch.Tensor:
    parts: list[NDArray[np.int64]] = []
    remaining = count
    for path, part in zip(paths, labels, strict=True):
        rows = part.head(remaining)
        remaining -= len(rows)
        if len(rows):
            parts.append(class_numbers(rows, class_names, row_names(path)))
    return torch.from_numpy(np.concatenate(parts))


def _images(
    paths: list[str], lengths: list[int], count: int, columns: _Columns, request: ImageRequest
) -> torch.Tensor:
    """Decode the first rows of the files: uint8 (N, channels, height, width)."""
    block = PixelBlock(count, request)
    remaining = count
    for path, length in zip(paths, lengths, strict=True):
        rows = min(length, remaining)
        if rows:
            frame = _scanned(path).select(columns.image).head(rows)
            block.extend(_pictures(_collected(frame, path)[columns.image], path))
        remaining -= rows
    return block.images()


def _pictures(column: pl.Series, path: str) -> Iterator[Picture]:
    """The images of a column of one file, not yet decoded."""
    origin = row_names(path)
    dtype = column.dtype
    if isinstance(dtype, pl.Struct) and "bytes" in [field.name for field in dtype.fields]:
        column, dtype = column.struct.field("bytes"), pl.Binary()
    if dtype == pl.Binary:
        for row, data in enumerate(column):
            yield encoded_picture(data, origin(row))
    elif isinstance(dtype, pl.List | pl.Array):
        for row in range(len(column)):
            yield array_picture(_nested(column, row, origin(row)), origin(row))
    else:
        raise DataError(
            f"expected images in the column {column.name} of {path}, as encoded bytes or nested "
            f"lists of numbers, found {dtype}; give --image-column"
        )


def _nested(column: pl.Series, row: int, origin: str) -> NDArray[Any]:
    value = column[row]
    if value is None:
        raise DataError(f"expected an image in {origin}, found none")
    try:
        return np.array(value.to_list())
    except ValueError as error:
        raise DataError(f"expected rows of equal length in {origin}: {error}") from error


def _declared_classes(path: str, label_column: str) -> tuple[str, ...]:
    """The class names in the Hugging Face metadata of the label, or none."""
    try:
        text = pl.read_parquet_metadata(web_address(location(path))).get("huggingface")
    except (pl.exceptions.PolarsError, OSError):
        return ()  # a remote file: its labels suffice
    return declared_names(text or "", label_column)


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
    table = pl.concat([_scanned(str(path)) for path in paths]).head(count).collect()
    metadata = {
        key: value
        for key, value in pl.read_parquet_metadata(location(str(paths[0]))).items()
        if key == "huggingface"
    }
    make_folder(target)
    with write_beside(target / f"{split}-00000-of-00001.parquet") as partial:
        table.write_parquet(without_magic(partial), compression="zstd", metadata=metadata)
