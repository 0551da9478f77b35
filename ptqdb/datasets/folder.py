"""Images from a folder with one subfolder per class, or a flat folder of pictures."""

from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import torch

from ptqdb.datasets.class_files import EXTENSIONS, class_files
from ptqdb.datasets.decoding import PixelBlock, picture_file
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.labels import sorted_as_text
from ptqdb.datasets.request import ImageRequest
from ptqdb.datasets.splits import EVERY_SPLIT, SPLIT_WORDS, notes_on, stand_ins
from ptqdb.errors import DataError

_LINKS_NAMED = 3


def read_folder(root: Path, split: str, request: ImageRequest | None = None) -> ImageSet:
    """Read the images of ``ROOT/SPLIT/CLASS/*``, or of ``ROOT/CLASS/*`` for every split.

    Classes are the subfolders, sorted by name as in torchvision's ``ImageFolder``. They are
    collected over all splits, so a class missing from one split does not shift the others. Links
    are followed as in ``class_files``. Images are interleaved by class: the first of every class,
    the second of every class, and so on, so the first N cover all classes. Files with other
    extensions and hidden folders are skipped. Without labels the order is the same; if no subfolder
    has images, those of ``ROOT/SPLIT/*`` or ``ROOT/*`` are read, by name.

    Raises
    ------
    DataError
        No such split, no classes, no images, or a corrupt image; the message names the file.
    """
    request = request or ImageRequest()
    folders = _split_folders(root, in_classes=request.labelled)
    words = stand_ins(split, folders)
    if not words:
        inside = " with one subfolder per class" if request.labelled else ""
        raise DataError(
            f"expected the folder {root / split}{inside}, found only {', '.join(sorted(folders))}"
        )
    taken = words[0]
    class_names = tuple(sorted({name for folder in folders.values() for name in _classes(folder)}))
    if not class_names and request.labelled:
        raise DataError(
            f"expected one subfolder per class with images in {folders[taken]}, found none"
        )
    by_class, left_out = class_files(root, folders[taken], class_names)
    files = list(_in_turns(by_class))
    if not files and not request.labelled:
        files = [(path, 0) for path in _own_files(folders[taken])]
    if not files:
        where = "the subfolders of " if request.labelled else ""
        raise DataError(
            f"expected images ({', '.join(EXTENSIONS)}) in {where}{folders[taken]}, found none"
        )
    name = request.name or root.resolve().name
    files = files[: request.taken(len(files), f"{name} {taken}")]
    block = PixelBlock(len(files), request)
    block.extend(picture_file(path) for path, _ in files)
    notes = (*notes_on(split, taken, root), *_note_on_links(left_out))
    if not request.labelled:
        return ImageSet(name, taken, block.images(), None, (), notes)
    labels = torch.tensor([number for _, number in files], dtype=torch.int64)
    notes += _note_on_numbers(class_names)
    return ImageSet(name, taken, block.images(), labels, class_names, notes)


def has_pictures(root: Path, *, in_classes: bool) -> bool:
    """Whether a class folder, in a split or at the top, contains an image.

    Without `in_classes`, an image directly in a split or at the top suffices.
    """
    folders = _split_folders(root, in_classes=in_classes).values()
    for folder in folders:
        by_class, _ = class_files(root, folder, _classes(folder))
        if any(by_class) or (not in_classes and _own_files(folder)):
            return True
    return False


def _split_folders(root: Path, *, in_classes: bool) -> dict[str, Path]:
    """The folder of each split; the root for every split if there are no split folders.

    A folder named ``train`` without subfolders is a class: pictures of trains. Without `in_classes`
    it is still a split if all its sibling folders are named like splits.
    """
    subfolders = _subfolders(root)
    named = {
        folder.name.lower(): folder for folder in subfolders if folder.name.lower() in SPLIT_WORDS
    }
    folders = {name: folder for name, folder in named.items() if _subfolders(folder)}
    if not folders and not in_classes and len(named) == len(subfolders):
        folders = named
    return folders or {EVERY_SPLIT: root}


def _classes(folder: Path) -> list[str]:
    return [subfolder.name for subfolder in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _note_on_links(left_out: list[Path]) -> tuple[str, ...]:
    if not left_out:
        return ()
    named = ", ".join(map(str, left_out[:_LINKS_NAMED])) + (
        ", ..." if len(left_out) > _LINKS_NAMED else ""
    )
    return (f"skipped links to folders that are already read, or contain such folders: {named}",)


def _own_files(folder: Path) -> list[Path]:
    """The images directly in the folder, by name."""
    return sorted(
        path for path in folder.iterdir() if not path.is_dir() and path.suffix.lower() in EXTENSIONS
    )


def _in_turns(by_class: list[list[Path]]) -> Iterable[tuple[Path, int]]:
    """Interleave the classes: one file of each in turn."""
    for row in zip_longest(*by_class):
        for number, path in enumerate(row):
            if path is not None:
                yield path, number


def _note_on_numbers(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a note if folders named 0, 1, ..., 10 are not in numeric order."""
    if not all(name.isdecimal() for name in class_names):
        return ()
    if [int(name) for name in class_names] == sorted(int(name) for name in class_names):
        return ()
    return ("folder names are numbers, but sorted as text: " + sorted_as_text(class_names),)
