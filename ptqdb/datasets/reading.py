"""Choose the reader for a ``--dataset``."""

from pathlib import Path

from ptqdb.datasets.arrays import read_npz
from ptqdb.datasets.class_files import EXTENSIONS
from ptqdb.datasets.folder import has_pictures, read_folder
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.parquet import read_parquet
from ptqdb.datasets.parquet_files import REMOTE, has_parquet_files, is_glob
from ptqdb.datasets.preprocessing import Geometry
from ptqdb.datasets.request import AS_IT_IS, ImageRequest
from ptqdb.datasets.torchvision import PREFIX, dataset_names, read_torchvision
from ptqdb.errors import DataError
from ptqdb.support.closest import closest_first
from ptqdb.support.paths import named_path, shorten


def read_images(
    spec: str | Path,
    split: str,
    *,
    geometry: Geometry = AS_IT_IS,
    channels: int | None = None,
    count: int | None = None,
    at_most: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    name: str | None = None,
    root: Path | None = None,
    download: bool = False,
    labelled: bool = True,
) -> ImageSet:
    """Read images from any supported source, by default with labels.

    Parameters
    ----------
    spec
        A folder with Parquet files (``train-*.parquet`` and ``test-*.parquet``), one such file, a
        glob or ``hf://datasets/OWNER/NAME``; a folder ``ROOT/SPLIT/CLASS`` or ``ROOT/CLASS`` of
        pictures; an ``.npz`` file; or ``torchvision:NAME``. Without labels also a flat folder
        ``ROOT/SPLIT`` or ``ROOT`` of pictures.
    split
        ``train`` or ``test``; ``ImageSet.split`` tells which one was read.
    geometry
        How each picture is fitted to the network's input size.
    channels
        1 or 3 converts every picture to grayscale or RGB.
    count, at_most
        Read only the first N images; if there are fewer, ``count`` raises and ``at_most`` does not.
    image_column, label_column
        Columns of Parquet or arrays of ``.npz`` if their names are unusual.
    name
        The dataset's name; derived from ``spec`` by default.
    root, download
        For a torchvision dataset: the folder of its files, and whether to download them.
    labelled
        False reads images for calibration only: labels are optional and not read.

    Raises
    ------
    DataError
        Nothing readable is found, or an image or label is bad; the message names the file and the
        row.
    UsageError
        A torchvision dataset or a split that does not exist, or impossible channels.
    """
    request = ImageRequest(
        geometry, channels, count, at_most, image_column, label_column, name, labelled
    )
    text = str(spec)
    if text.startswith(PREFIX):
        return read_torchvision(
            text.removeprefix(PREFIX), split, request, root=root, download=download
        )
    if text.startswith(REMOTE):
        return read_parquet(text, split, request)
    path = named_path(text)
    if path.is_file():
        return _read_file(path, split, request)
    if path.is_dir():
        try:
            return _read_folder(path, split, request)
        except OSError as error:  # of the listing: pictures raise other errors
            place = error.filename or path
            raise DataError(f"{place} cannot be read: {error.strerror or error}") from error
    if path.exists():
        raise DataError(f"expected a file or a folder of images, found {path}: not a regular file")
    if is_glob(text):
        return read_parquet(str(path), split, request)
    raise DataError(_nothing_there(text, path))


def _read_file(path: Path, split: str, request: ImageRequest) -> ImageSet:
    match path.suffix.lower():
        case ".parquet":
            return read_parquet(path, split, request)
        case ".npz":
            return read_npz(path, split, request)
    raise DataError(
        f"expected a .parquet or .npz file, or a folder, as --dataset, found the file {path}"
    )


def _read_folder(path: Path, split: str, request: ImageRequest) -> ImageSet:
    if has_parquet_files(path):
        return read_parquet(path, split, request)
    if has_pictures(path, in_classes=request.labelled):
        return read_folder(path, split, request)
    entries = sorted(entry.name for entry in path.iterdir())
    found = ", ".join(entries[:5]) + (", ..." if len(entries) > 5 else "")
    pictures = "one subfolder per class with images" if request.labelled else "images"
    raise DataError(
        f"expected {split}-*.parquet, or {pictures} ({', '.join(EXTENSIONS)}) in {path}, "
        f"found {found or 'nothing'}"
    )


def _nothing_there(text: str, path: Path) -> str:
    message = f"expected a folder, a .parquet or .npz file, {PREFIX}NAME or {REMOTE} as --dataset, "
    message += f"found no file or folder {shorten(Path(text))}"
    similar = _torchvision_name(text)
    if similar is not None:
        return f"{message}; did you mean torchvision's {PREFIX}{similar}?"
    if path.parent.is_dir():
        beside = closest_first(path.name, (entry.name for entry in path.parent.iterdir()))[:3]
        return f"{message}; similar names there: {', '.join(beside)}" if beside else message
    return f"{message}, nor the folder {path.parent}"


def _torchvision_name(text: str) -> str | None:
    """The torchvision dataset of this name, ignoring case."""
    try:
        by_lowercase = {name.lower(): name for name in dataset_names()}
    except ImportError:
        return None
    return by_lowercase.get(text.lower())
