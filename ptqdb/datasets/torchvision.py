"""Images from a torchvision dataset, by name."""

import importlib
import inspect
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image

from ptqdb.datasets.decoding import Picture, PixelBlock
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.labels import class_numbers, read_class_names
from ptqdb.datasets.request import ImageRequest
from ptqdb.datasets.splits import EVERY_SPLIT, STAND_INS, notes_on
from ptqdb.errors import DataError, MissingExtraError, UsageError
from ptqdb.support.closest import closest_first

PREFIX = "torchvision:"
ROOT_VARIABLE = "PTQDB_DATA"
# Datasets of folders or formats, which need further arguments.
_NOT_BY_NAME = ("ImageFolder", "DatasetFolder", "VisionDataset", "EMNIST")


def default_root() -> Path:
    """Return the folder of torchvision's datasets: ``PTQDB_DATA``, else ``~/.cache/ptqdb``."""
    return Path(os.environ.get(ROOT_VARIABLE) or Path.home() / ".cache" / "ptqdb").expanduser()


def read_torchvision(
    dataset: str,
    split: str,
    request: ImageRequest | None = None,
    *,
    root: Path | None = None,
    download: bool = False,
) -> ImageSet:
    """Read the images of a torchvision dataset, such as ``FashionMNIST``.

    Parameters
    ----------
    dataset
        A class of ``torchvision.datasets`` whose items are a picture and a class number; for images
        without labels, a picture and anything.
    root
        Folder of its files; ``default_root()`` by default.
    download
        Whether torchvision may download missing files.

    Raises
    ------
    MissingExtraError
        torchvision is not installed.
    UsageError
        No such dataset, or one that needs more arguments; the message lists the closest names.
    DataError
        Its files are missing, or its items are not labelled pictures.
    """
    request = request or ImageRequest()
    root = root or default_root()
    kind = dataset_class(dataset)
    taken, items = _constructed(kind, dataset, split, root, download)
    name = request.name or dataset
    count = request.taken(len(items), f"{name} {taken}")
    block, labels = PixelBlock(count, request), list[int]()
    # One thread: torchvision does not guarantee thread safety.
    wanted = labels if request.labelled else None
    block.extend(_pictures(items, count, dataset, wanted), threads=1)
    notes = notes_on(split, taken, dataset)
    if not request.labelled:
        return ImageSet(name, taken, block.images(), None, (), notes)
    numbers = pl.Series(labels, dtype=pl.Int64)
    class_names = _class_names(items) or read_class_names([_all_labels(items, numbers)])
    return ImageSet(
        name,
        taken,
        block.images(),
        torch.from_numpy(class_numbers(numbers, class_names, lambda row: f"{dataset}, item {row}")),
        class_names,
        notes,
    )


def dataset_class(dataset: str) -> Any:
    """Return the class of that name.

    Raises
    ------
    MissingExtraError
        torchvision is not installed.
    UsageError
        No such dataset; the message lists the closest names first.
    """
    datasets = _torchvision_datasets()
    names = dataset_names()
    if dataset not in names:
        raise UsageError(
            f"torchvision has no dataset {dataset!r} that can be read by name; "
            f"choose {PREFIX}NAME from {', '.join(closest_first(dataset, names)[:5])}, ..."
        )
    return getattr(datasets, dataset)


def dataset_names() -> list[str]:
    """Return the datasets that need only a root and a split.

    Raises
    ------
    MissingExtraError
        torchvision is not installed.
    """
    datasets = _torchvision_datasets()
    return [
        name
        for name in datasets.__all__
        if name not in _NOT_BY_NAME and _needs_no_more(getattr(datasets, name))
    ]


def _torchvision_datasets() -> Any:
    try:
        return importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise MissingExtraError(
            f"{PREFIX} needs torchvision; pip install 'ptqdb[torchvision]' ({error})"
        ) from error


def _needs_no_more(kind: Any) -> bool:
    parameters = inspect.signature(kind).parameters.values()
    needed = {
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return inspect.isclass(kind) and needed <= {"root"}


def _constructed(
    kind: Any, dataset: str, split: str, root: Path, download: bool
) -> tuple[str, Any]:
    """The split that was read, and the dataset object."""
    parameters = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {}
    if "root" in parameters:
        arguments["root"] = str(root)
    # QMNIST passes other arguments, including download, to its base class.
    if download and ("download" in parameters or dataset == "QMNIST"):
        arguments["download"] = True
    if "train" in parameters:
        if split not in ("train", "test"):
            raise UsageError(f"{dataset} has the splits train and test, found {split!r}")
        arguments["train"] = split == "train"
        return split, _tried(kind, dataset, root, arguments)
    if "split" not in parameters:
        return EVERY_SPLIT, _tried(kind, dataset, root, arguments)
    words = STAND_INS.get(split, (split,)) + (("trainval",) if split == "train" else ())
    for word in words:
        try:
            return word, _tried(kind, dataset, root, arguments | {"split": word})
        except _UnknownSplitError as error:
            valid = str(error)
    raise UsageError(f"{dataset} has no split {split!r}: {valid}")


class _UnknownSplitError(Exception):
    """torchvision's own message, which lists the splits."""


def _tried(kind: Any, dataset: str, root: Path, arguments: dict[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except ValueError as error:
        if "Unknown value" in str(error) and "split" in arguments:
            raise _UnknownSplitError(str(error).splitlines()[0]) from error
        raise _unreadable(dataset, root, arguments, error) from error
    except ImportError as error:
        raise MissingExtraError(f"torchvision's {dataset} needs a package: {error}") from error
    except Exception as error:  # damaged files raise AssertionError, KeyError and others
        raise _unreadable(dataset, root, arguments, error) from error


def _unreadable(dataset: str, root: Path, arguments: dict[str, Any], error: Exception) -> DataError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    download = "" if arguments.get("download") else "give --download, or "
    return DataError(
        f"expected the files of {dataset} in {root}, found: {reason}; {download}set "
        f"{ROOT_VARIABLE} to the folder that holds them"
    )


def _pictures(items: Any, count: int, dataset: str, labels: list[int] | None) -> Iterator[Picture]:
    """Yield the items' pictures and append their labels, if requested, to `labels`."""
    for row in range(count):
        origin = f"{dataset}, item {row}"
        try:
            item = items[row]
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"expected an image in {origin}; it is corrupt: {error}") from error
        picture, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        is_classified = label is not None and not np.ndim(label)
        if not isinstance(picture, Image.Image) or not (is_classified or labels is None):
            raise DataError(
                f"expected a picture and its class number in {origin}; {dataset} is not an image "
                "classification dataset"
            )
        if labels is not None:
            labels.append(_class_number(label, origin))
        yield Picture(origin, partial(_same, picture))


def _class_number(label: Any, origin: str) -> int:
    if not isinstance(label, int | np.integer | torch.Tensor):
        raise DataError(f"expected a class number in {origin}, found {label!r}")
    return int(label)


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _class_names(items: Any) -> tuple[str, ...]:
    """The class names, if the dataset has them; synonyms are joined."""
    names = getattr(items, "classes", None)
    if not isinstance(names, list | tuple):
        return ()
    return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in names)


def _all_labels(items: Any, read: pl.Series) -> pl.Series:
    """The labels of the whole split if the dataset stores them, else those that were read."""
    for attribute in ("targets", "labels", "_labels"):
        found = getattr(items, attribute, None)
        if found is not None and np.ndim(found) == 1 and np.asarray(found).dtype.kind in "iu":
            return pl.Series(np.asarray(found))
    return read
