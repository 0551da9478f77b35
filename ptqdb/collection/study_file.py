"""A study declared in a TOML file: its datasets, networks, number formats and counts.

.. code-block:: toml

    number_formats = "INT_*, FLOAT_8_*"     # default: "*", all of the study's grid
    scopes = ["weight", "bias"]             # quantized alone, too; "layer": each layer
    device = "cpu"                          # cpu, cuda or cuda:N
    precision = "auto"                      # or "float32"

    [dataset.cifar10]
    path = "images/cifar10"                 # anything that --dataset takes
    images = 2000                           # test images, the first so many; default: all
    calibration = 512                       # training images; default: 1024, or all if fewer
    image_column = "img"                    # where the columns' names are unusual
    label_column = "label"

    [dataset.flowers]
    path = "flowers/val"                    # class folders without splits: two folders
    calibration_path = "flowers/train"
    split = "validation"                    # what is evaluated on; default: "test"
    channels = 3                            # 1 or 3: grayscale pictures to RGB, or back

    [[network]]
    spec = "torchvision:resnet18"           # anything that --network takes
    weights = "DEFAULT"                     # named weights ...
    dataset = "flowers"                     # may be left out where there is one dataset

    [[network]]
    spec = "models.py:ResNet20"
    checkpoint = "resnet20.safetensors"     # ... or a file of them
    dataset = "cifar10"
    name = "ResNet_20"                      # what the database calls it
    architecture = "ResNet"                 # what it is kin to
    mean = [0.4914, 0.4822, 0.4465]         # per channel, in units of the full range 0..1
    std = [0.247, 0.2435, 0.2616]
    resize = 32                             # shorter edge in pixels
    crop = 32                               # centre square in pixels
    interpolation = "bilinear"

    [dataset.fashion]
    path = "torchvision:FashionMNIST"
    root = "images"                         # where torchvision's files are
    download = true                         # fetch them if they are not there

    [[network]]
    spec = "timm:vit_tiny_patch16_224"
    weights = "random"                      # for a try: no accuracy is to be expected
    class_count = 10                        # outputs of random weights
    seed = 1
    dataset = "fashion"

Paths are relative to the file. An unknown key is an error, not a setting without effect.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ptqdb.collection.declaration import DatasetEntry, NetworkEntry, StudyDeclaration
from ptqdb.collection.toml_table import TomlTable
from ptqdb.datasets.preprocessing import INTERPOLATIONS, LARGEST_EDGE
from ptqdb.defaults import LAYER_SCOPE, MOST_CLASSES, SCOPES
from ptqdb.errors import UsageError
from ptqdb.quantization.number_formats import NumberFormat, matching
from ptqdb.support.closest import closest_first
from ptqdb.support.paths import is_file, named_path, regular_file
from ptqdb.support.text import is_harmless

PRECISIONS = ("auto", "float32")
# Where a path is no path but a name elsewhere.
_ELSEWHERE = ("torchvision:", "hf://")


def read_study_file(path: Path) -> StudyDeclaration:
    """The study that a TOML file declares; nothing that it names is opened yet.

    Raises
    ------
    UsageError
        No such file, not TOML (with the line), no dataset or network, an unknown or missing
        key, a value of the wrong kind; the message names the file, the table and the key.
    """
    study = TomlTable(path, "", _loaded(path))
    study.refuse_others(["dataset", "network", *_keys(StudyDeclaration, "datasets", "networks")])
    datasets = tuple(
        _dataset(study.child(f"[dataset.{name}]", table), name, path.resolve().parent)
        for name, table in study.tables("dataset").items()
    )
    if not datasets:
        raise study.error("expected a table [dataset.NAME] with a path, found none")
    networks = tuple(
        _network(study.child(_heading(number, table), table), datasets, path.resolve().parent)
        for number, table in enumerate(study.array_of_tables("network"), start=1)
    )
    if not networks:
        raise study.error("expected a table [[network]] with a spec, found none")
    result = StudyDeclaration(
        datasets,
        networks,
        number_formats=_number_formats(study),
        scopes=study.texts("scopes", (*SCOPES, LAYER_SCOPE)),
        device=study.text("device") or "cpu",
        precision=study.text("precision", PRECISIONS) or "auto",
    )
    _refuse_duplicates(study, networks)
    return result


def _loaded(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(regular_file(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"expected a study file, found no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"expected a study file in UTF-8, found {path}: {reason}") from error
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise UsageError(f"{path}: expected TOML, found: {error}") from error


def _heading(number: int, table: Mapping[str, Any]) -> str:
    """How a network's table is named in messages: which one it is, and of which spec."""
    spec = table.get("spec")
    return f"[[network]] {number}" + (f" ({spec})" if isinstance(spec, str) else "")


def _dataset(table: TomlTable, name: str, folder: Path) -> DatasetEntry:
    table.refuse_others(_keys(DatasetEntry, "name"))
    if not is_harmless(name):
        raise table.error(f"expected a name without control characters, found {name!r}")
    calibration_path = table.text("calibration_path")
    root = table.text("root")
    channels = table.count("channels")
    if channels not in (None, 1, 3):
        raise table.error(f"channels: expected 1 (grayscale) or 3 (RGB), found {channels}")
    return DatasetEntry(
        name,
        _located(table.needed_text("path"), folder),
        calibration_path=calibration_path and _located(calibration_path, folder),
        images=table.count("images"),
        calibration=table.count("calibration"),
        split=table.text("split") or "test",
        image_column=table.text("image_column"),
        label_column=table.text("label_column"),
        channels=channels,
        root=None if root is None else Path(_located(root, folder)),
        download=table.flag("download"),
    )


def _network(table: TomlTable, datasets: tuple[DatasetEntry, ...], folder: Path) -> NetworkEntry:
    table.refuse_others(_keys(NetworkEntry))
    checkpoint = table.text("checkpoint")
    weights = table.text("weights")
    if checkpoint is not None and weights is not None:
        raise table.error("expected checkpoint (a file) or weights (a name), found both")
    mean, std = table.numbers("mean"), table.numbers("std")
    if (mean is None) != (std is None):
        found, missing = ("std", "mean") if mean is None else ("mean", "std")
        raise table.error(f"expected mean and std, found {found} without {missing}")
    if mean is not None and std is not None:
        if len(mean) != len(std):
            raise table.error(f"std: expected {len(mean)} numbers as in mean, found {len(std)}")
        if min(std) <= 0:
            raise table.error(f"std: expected numbers above 0, found {min(std):g}")
    return NetworkEntry(
        _located_code(table.needed_text("spec"), folder),
        _dataset_name(table, [entry.name for entry in datasets if entry.name is not None]),
        checkpoint=None if checkpoint is None else Path(_located(checkpoint, folder)),
        weights=weights,
        name=_name(table, "name"),
        architecture=_name(table, "architecture"),
        mean=mean,
        std=std,
        resize=table.count("resize", LARGEST_EDGE),
        crop=table.count("crop", LARGEST_EDGE),
        interpolation=table.text("interpolation", INTERPOLATIONS),
        class_count=table.count("class_count", MOST_CLASSES),
        seed=table.count("seed"),
    )


def _name(table: TomlTable, key: str) -> str | None:
    """A name that the database is to hold; None if absent."""
    name = table.text(key)
    if name is not None and not is_harmless(name):
        raise table.error(f"{key}: expected a name without control characters, found {name!r}")
    return name


def _dataset_name(table: TomlTable, names: list[str]) -> str:
    wanted = table.text("dataset")
    if wanted is None:
        if len(names) == 1:
            return names[0]
        raise table.error(f"dataset: expected one of {', '.join(names)}, found none")
    if wanted not in names:
        declared = ", ".join(closest_first(wanted, names))
        raise table.error(f"dataset: expected one of {declared}, found {wanted!r}")
    return wanted


def _number_formats(study: TomlTable) -> tuple[NumberFormat, ...]:
    try:
        return matching(study.text("number_formats") or "*")
    except UsageError as error:
        raise study.error(f"number_formats: {error}") from error


def _refuse_duplicates(study: TomlTable, networks: tuple[NetworkEntry, ...]) -> None:
    names = [network.name for network in networks if network.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise study.error(f"expected a name of its own for each network, found {name!r} twice")


def _located(path: str, folder: Path) -> str:
    """Absolute, relative to the folder; what is no path stays as it is."""
    if path.startswith(_ELSEWHERE):
        return path
    return str(named_path(path, folder))


def _located_code(spec: str, folder: Path) -> str:
    """A spec ``file.py:Class`` with the file absolute; also a spec that is a file itself."""
    code = re.fullmatch(r"(.+\.py)(:[^:]+)?", spec)
    if code is not None:
        return _located(code[1], folder) + (code[2] or "")
    return _located(spec, folder) if is_file(folder / spec) else spec


def _keys(entry: type, *others: str) -> list[str]:
    """The keys that a table may have: the fields of its dataclass, less others."""
    return [field.name for field in fields(entry) if field.name not in others]
