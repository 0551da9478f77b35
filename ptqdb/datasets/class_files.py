"""Find the pictures of each class: the files in its folder, and the targets of links there."""

import os
from collections.abc import Sequence
from pathlib import Path

from ptqdb.errors import DataError

# Those of torchvision's ImageFolder.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

_Identity = tuple[int, int]


def class_files(
    root: Path, folder: Path, class_names: Sequence[str]
) -> tuple[list[list[Path]], list[Path]]:
    """Return the pictures of each class in ImageFolder's order, and the links not followed.

    Links to files and folders are followed, but no folder is read twice, and none that contains a
    class: a link ``a/up -> ..`` would add every picture to class ``a``. Folders inside a class are
    read before links to them.

    Parameters
    ----------
    root
        Folder of the dataset.
    folder
        Folder of the split, which contains those of the classes.

    Returns
    -------
    Files by class, sorted by folder, then by name; folders that were skipped.

    Raises
    ------
    DataError
        Two classes are the same folder, or the folder of a class contains the others.
    OSError
        A folder cannot be read.
    """
    above = {_identity(path) for path in (root, folder, *folder.resolve().parents)}
    read: dict[_Identity, Path] = {}
    found: list[list[tuple[Path, list[str]]]] = []
    links: list[tuple[int, Path]] = []
    folders = [folder / name for name in class_names if (folder / name).is_dir()]
    for path in folders:
        identity = _identity(path)
        if identity in above or identity in read:
            other = read.get(identity, folder)
            raise DataError(
                f"expected a folder of its own for each class, found {path}, a link to {other}"
            )
        read[identity] = path
    left_out: list[Path] = []
    for place, path in enumerate(folders):
        found.append([])
        links += [(place, link) for link in _walked(path, read, found[place], left_out)]
    while links:
        place, link = links.pop(0)
        identity = _identity(link)
        if identity in above or identity in read:
            left_out.append(link)
            continue
        read[identity] = link
        links += [(place, inner) for inner in _walked(link, read, found[place], left_out)]
    by_name = dict(zip((path.name for path in folders), found, strict=True))
    files = [
        [
            parent / name
            for parent, names in sorted(by_name.get(class_name, []), key=lambda one: str(one[0]))
            for name in sorted(names)
        ]
        for class_name in class_names
    ]
    return files, sorted(left_out)


def _walked(
    folder: Path,
    read: dict[_Identity, Path],
    found: list[tuple[Path, list[str]]],
    left_out: list[Path],
) -> list[Path]:
    """Collect the pictures in a folder and its subfolders; return the links to folders."""
    waiting = [folder]
    links = []
    while waiting:
        parent = waiting.pop()
        names = []
        with os.scandir(parent) as entries:
            for entry in entries:
                path = parent / entry.name
                if not _is_folder(entry):
                    names.append(entry.name)
                elif entry.is_symlink():
                    links.append(path)
                elif _identity(path) in read:  # reached through a link, or a class's link
                    left_out.append(path)
                else:
                    read[_identity(path)] = path
                    waiting.append(path)
        found.append((parent, [name for name in names if name.lower().endswith(EXTENSIONS)]))
    return sorted(links)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: opening it raises
        return False


def _identity(path: Path) -> _Identity:
    """An identity that is equal for all paths to one folder."""
    found = path.stat()
    return found.st_dev, found.st_ino
