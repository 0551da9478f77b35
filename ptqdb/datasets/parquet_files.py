"""Find the Parquet files of a folder, a file, a glob or an ``hf://`` address, by split."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from ptqdb.datasets.splits import EVERY_SPLIT, SPLIT_WORDS
from ptqdb.errors import DataError
from ptqdb.support.paths import matching_paths, without_magic

REMOTE = "hf://"
# Usual folders of a dataset's files on the Hugging Face hub, preferred ones first.
_PLACES = ("", "data", "plain_text", "default")
_GLOB_CHARACTERS = frozenset("*?[")

Files = dict[str, list[str]]


def is_glob(spec: str) -> bool:
    """Whether a path has wildcards."""
    return any(character in _GLOB_CHARACTERS for character in spec)


def parquet_files(source: str) -> Files:
    """Return paths or addresses by split, sorted by name.

    The split of a file is given by its name (``train-00000-of-00002.parquet``,
    ``cifar10_test.parquet``), else by its folder (``train/0000.parquet``). In a folder, the files
    at the top are used, else those in ``data``, ``plain_text`` or ``default``, else those in the
    only subfolder that has any. If no name contains a split, the files serve for every split.

    Parameters
    ----------
    source
        A folder, a file, a glob, or ``hf://datasets/OWNER/NAME`` with or without a path.

    Raises
    ------
    DataError
        No such files, files in several subfolders, or they cannot be listed.
    """
    root = ""
    if source.startswith(REMOTE):
        if not (is_glob(source) or source.endswith(".parquet")):
            root = source.rstrip("/")
        paths = _listed_remotely(f"{root}/**/*.parquet" if root else source)
    elif Path(source).is_dir():
        root, paths = source, _in_folder(Path(source))
    elif Path(source).exists() or not is_glob(source):
        paths = [source]
    else:
        paths = matching_paths(source)
    if not paths:
        raise DataError(f"expected Parquet files in {source}, found none")
    for path in paths:
        if not path.startswith(REMOTE) and Path(path).exists() and not Path(path).is_file():
            raise DataError(f"expected a Parquet file, found {path}, which is not a regular file")
    if not root:
        return _by_split(paths)
    return best_place(paths, root)


def has_parquet_files(folder: Path) -> bool:
    """Whether a folder or its subfolders, down to two levels, contain Parquet files."""
    return bool(_in_folder(folder))


def dataset_name(path: str) -> str:
    """Return the name of a dataset: its folder, but not that of a split or ``data``."""
    if path.startswith(REMOTE):
        return "/".join(path.removeprefix(REMOTE).split("@")[0].split("/")[1:3])
    folder = Path(path).resolve().parent
    while folder.name in _PLACES or folder.name in SPLIT_WORDS:
        if folder == folder.parent:
            return Path(path).stem
        folder = folder.parent
    return folder.name


def location(path: str) -> str:
    """Return what Polars opens: the absolute path of a local file; an address unchanged."""
    return path if path.startswith(REMOTE) else str(without_magic(path))


def web_address(path: str) -> str:
    """Return the download URL of a file on the hub; any other path unchanged.

    Examples
    --------
    >>> web_address("hf://datasets/owner/name@v1/data/test-0.parquet")
    'https://huggingface.co/datasets/owner/name/resolve/v1/data/test-0.parquet'
    """
    if not path.startswith(REMOTE):
        return path
    kind, owner, name, *rest = path.removeprefix(REMOTE).split("/")
    name, _, revision = name.partition("@")
    if revision == "~parquet":
        revision = "refs%2Fconvert%2Fparquet"
    return "/".join(
        ["https://huggingface.co", kind, owner, name, "resolve", revision or "main", *rest]
    )


def _in_folder(folder: Path) -> list[str]:
    """The files of a folder and its subfolders; links back to a parent are not followed."""
    real = folder.resolve()
    found = [
        path
        for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet")
        for path in folder.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not _leads_back(path, folder, real)
    ]
    return [str(path) for path in sorted(found)]


def _leads_back(path: Path, folder: Path, real: Path) -> bool:
    """Whether a file in a folder is reached through a link to that folder or a parent."""
    between = path.parents[: len(path.relative_to(folder).parts) - 1]
    return any(place.is_symlink() and real.is_relative_to(place.resolve()) for place in between)


def _listed_remotely(pattern: str) -> list[str]:
    """Addresses of the files that a pattern on the hub matches."""
    try:
        frame = pl.scan_parquet(pattern, include_file_paths="file").select("file").unique()
        return sorted(frame.collect()["file"].to_list())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"expected to list {pattern}: {str(error).splitlines()[0]}; check that the dataset "
            "has Parquet files and the network is up, or download it and give the folder"
        ) from error


def _split_word(stem: str) -> str | None:
    """The split in a name: its first part, else the only part that is a split."""
    parts = re.split(r"[-_.]", stem.lower())
    if parts[0] in SPLIT_WORDS:
        return parts[0]
    words = {part for part in parts if part in SPLIT_WORDS}
    return words.pop() if len(words) == 1 else None


def _by_split(paths: Sequence[str]) -> Files:
    """Group files by split, without looking into folders."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        pure = PurePosixPath(path)
        files[_split_word(pure.stem) or _folder_word(pure) or EVERY_SPLIT].append(path)
    return _without_strays(files)


def _folder_word(path: PurePosixPath) -> str | None:
    name = path.parent.name.lower()
    return name if name in SPLIT_WORDS else None


def _without_strays(files: Files) -> Files:
    """Drop files without a split if any file has one."""
    told = {split: paths for split, paths in files.items() if split != EVERY_SPLIT}
    return told or dict(files)


def best_place(paths: Sequence[str], root: str) -> Files:
    """Return the files of the subfolder that contains the dataset."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    base = PurePosixPath(Path(root).as_posix() if not root.startswith(REMOTE) else root)
    for path in paths:
        folder = _relative(path, base).parent
        in_split = _split_word(PurePosixPath(path).stem) is None and folder.name in SPLIT_WORDS
        place = folder.parent if in_split else folder
        places["" if str(place) == "." else str(place)].append(path)
    by_place = {place: _by_split(found) for place, found in places.items()}
    told = {place: files for place, files in by_place.items() if EVERY_SPLIT not in files}
    for candidates in (told, by_place):
        for usual in _PLACES:
            if usual in candidates:
                return candidates[usual]
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        if candidates:
            raise DataError(
                f"expected one dataset in {root}, found one in each of "
                f"{', '.join(sorted(candidates))}; give {root.rstrip('/')}/{min(candidates)}"
            )
    raise DataError(f"expected Parquet files in {root}, found none")


def _relative(path: str, base: PurePosixPath) -> PurePosixPath:
    """The path below the base; for a rewritten address, the part after the revision."""
    pure = PurePosixPath(path)
    if pure.is_relative_to(base):
        return pure.relative_to(base)
    parts = pure.parts
    return PurePosixPath(*parts[parts.index("resolve") + 2 :]) if "resolve" in parts else pure
