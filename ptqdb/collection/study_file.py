"""A study declared in a TOML file: its datasets, networks, number formats and counts.

.. code-block:: toml

    number_formats = "INT_*, FLOAT_8_*"     # default: "*", all of the study's grid
    scopes = ["weight", "bias"]             # quantized alone, too; "layer": each layer
    device = "cpu"                          # cpu, cuda or cuda:N
    precision = "auto"                      # or "float32"
    until = 0.005                           # standard error to stop a cell at; default: all images
    probe = 128                             # calibration images to probe each format on; 0: none
    sensitivity = true                      # of each layer of the float network; default: false

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
    architecture = "ResNet"                 # the network's family
    mean = [0.4914, 0.4822, 0.4465]         # per channel, in units of the full range 0..1
    std = [0.247, 0.2435, 0.2616]
    resize = 32                             # shorter edge in pixels
    crop = 32                               # centre square in pixels
    interpolation = "bilinear"
    quantized = {gptq4 = "gptq4.safetensors"}   # dequantized weights of another method: a format

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

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from ptqdb.collection.declaration import (
    DatasetEntry,
    NetworkEntry,
    StudyDeclaration,
    check_quantized,
)
from ptqdb.datasets.preprocessing import LARGEST_EDGE, Interpolation
from ptqdb.defaults import DEFAULT_PROBE_COUNT, MOST_CLASSES, Precision, Scope
from ptqdb.errors import UsageError
from ptqdb.quantization.formats import match_formats
from ptqdb.support.closest import closest_first
from ptqdb.support.paths import is_file, named_path, regular_file
from ptqdb.support.text import is_harmless

# Prefixes of names that are not paths.
_ELSEWHERE = ("torchvision:", "hf://")
_LONGEST_SHOWN = 200

Text = Annotated[str, Meta(pattern=r"\S", description="a text")]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1, description="a whole number from 1 up")]
Edge = Annotated[
    int, Meta(ge=1, le=LARGEST_EDGE, description=f"a whole number, 1 to {LARGEST_EDGE}")
]
Classes = Annotated[
    int, Meta(ge=1, le=MOST_CLASSES, description=f"a whole number, 1 to {MOST_CLASSES}")
]
ProbeCount = Annotated[int, Meta(ge=0, le=2**31 - 1, description="a whole number from 0 up")]
Share = Annotated[float, Meta(gt=0, lt=1, description="a number between 0 and 1")]
Channels = Annotated[
    tuple[float, ...], Meta(min_length=1, description="a list of one number per channel")
]


class _Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: every key is known, and every value is of its kind."""


class _StudyTable(_Table):
    dataset: Annotated[dict[str, Any], Meta(description="tables [dataset.NAME]")] = {}
    network: Annotated[
        list[dict[str, Any]], Meta(description="tables [[network]] in double brackets")
    ] = []
    number_formats: Text = "*"
    scopes: Annotated[tuple[Scope, ...], Meta(description="a list of texts")] = ()
    device: Text = "cpu"
    precision: Precision = "auto"
    until: Share | None = None
    probe: ProbeCount = DEFAULT_PROBE_COUNT
    sensitivity: Annotated[bool, Meta(description="true or false")] = False


class _DatasetTable(_Table):
    path: Text
    calibration_path: Text | None = None
    images: Count | None = None
    calibration: Count | None = None
    split: Text = "test"
    image_column: Text | None = None
    label_column: Text | None = None
    channels: Literal[1, 3] | None = None
    root: Text | None = None
    download: Annotated[bool, Meta(description="true or false")] = False


class _NetworkTable(_Table):
    spec: Text
    dataset: Text | None = None
    checkpoint: Text | None = None
    weights: Text | None = None
    name: Text | None = None
    architecture: Text | None = None
    mean: Channels | None = None
    std: Channels | None = None
    resize: Edge | None = None
    crop: Edge | None = None
    interpolation: Interpolation | None = None
    class_count: Classes | None = None
    quantized: Annotated[
        dict[str, Text], Meta(description="a table of names and files, such as {gptq4 = FILE}")
    ] = {}
    seed: Count | None = None


_Kind = TypeVar("_Kind", bound=_Table)


def read_study_file(path: Path) -> StudyDeclaration:
    """The study that a TOML file declares; nothing that it names is opened yet.

    Raises
    ------
    UsageError
        No such file, not TOML (with the line), no dataset or network, an unknown or missing
        key, a value of the wrong kind; the message names the file, the table and the key.
    """
    study, folder = _convert(str(path), _read_toml(path), _StudyTable), path.resolve().parent
    if not study.dataset:
        raise UsageError(f"{path}: expected a table [dataset.NAME] with a path, found none")
    datasets = tuple(
        _dataset(f"{path}: [dataset.{name}]", name, values, folder)
        for name, values in study.dataset.items()
    )
    if not study.network:
        raise UsageError(f"{path}: expected a table [[network]] with a spec, found none")
    names = list(study.dataset)
    networks = tuple(
        _network(f"{path}: {_heading(number, values)}", values, names, folder)
        for number, values in enumerate(study.network, start=1)
    )
    try:
        number_formats = match_formats(
            study.number_formats, lambda spec: _located_code(spec, folder)
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    _refuse_duplicates(path, networks)
    return StudyDeclaration(
        datasets,
        networks,
        number_formats=number_formats,
        scopes=tuple(dict.fromkeys(study.scopes)),
        device=study.device,
        precision=study.precision,
        until=study.until,
        probe=study.probe,
        sensitivity=study.sensitivity,
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(regular_file(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"expected a study file, found no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"expected a study file in UTF-8, found {path}: {reason}") from error
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise UsageError(f"{path}: expected TOML, found: {error}") from error


def _convert(place: str, values: object, kind: type[_Kind]) -> _Kind:
    """The table, checked; a ``UsageError`` names the place, the key and what was found."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{place}: expected the table {place.split(': ')[-1]}, found {values!r}")
    hints = get_type_hints(kind, include_extras=True)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        message = str(error)
    if unknown := re.search("unknown field `(.*)`", message, re.DOTALL):
        choices = closest_first(unknown[1], hints)
        raise UsageError(
            f"{place}: unknown key {unknown[1]!r}; did you mean {choices[0]!r}? "
            f"Valid are {', '.join(choices)}"
        )
    if missing := re.search("missing required field `(.*)`", message):
        raise UsageError(f"{place}: expected the key {missing[1]}, found none")
    where = re.search(r"at `\$\.(\w+)(?:\[(\d+)\])?", message)
    key = where[1] if where else ""
    found, description = values[key], _description(hints[key])
    if description is None or "Invalid enum" in message:
        found = found[int(where[2])] if where and where[2] else found
        choices = closest_first(str(found), [str(one) for one in _choices(hints[key])])
        description = f"one of {', '.join(choices)}"
    raise UsageError(f"{place}: {key}: expected {description}, found {_shown(found)}")


def _parts(hint: Any) -> list[Any]:
    """A type and all that it is made of."""
    return [hint, *chain.from_iterable(map(_parts, get_args(hint)))]


def _choices(hint: Any) -> list[Any]:
    return [one for one in _parts(hint) if isinstance(one, str | int) and not isinstance(one, bool)]


def _description(hint: Any) -> str | None:
    found = (one.description for one in _parts(hint) if isinstance(one, Meta))
    return next(found, None)


def _heading(number: int, table: Mapping[str, Any]) -> str:
    """What messages call a network's table: its number and its spec."""
    spec = table.get("spec")
    return f"[[network]] {number}" + (f" ({spec})" if isinstance(spec, str) else "")


def _dataset(place: str, name: str, values: object, folder: Path) -> DatasetEntry:
    table = _convert(place, values, _DatasetTable)
    _require_harmless(place, name)
    calibration_path, root = table.calibration_path, table.root
    return DatasetEntry(
        name,
        _located(table.path, folder),
        calibration_path=calibration_path and _located(calibration_path, folder),
        images=table.images,
        calibration=table.calibration,
        split=table.split,
        image_column=table.image_column,
        label_column=table.label_column,
        channels=table.channels,
        root=None if root is None else Path(_located(root, folder)),
        download=table.download,
    )


def _network(place: str, values: object, datasets: list[str], folder: Path) -> NetworkEntry:
    table = _convert(place, values, _NetworkTable)
    for key, name in (("name: ", table.name), ("architecture: ", table.architecture)):
        _require_harmless(f"{place}: {key}".rstrip(": "), name)
    if table.checkpoint is not None and table.weights is not None:
        raise UsageError(f"{place}: expected checkpoint (a file) or weights (a name), found both")
    _require_channels(place, table)
    checkpoint = table.checkpoint
    return NetworkEntry(
        _located_code(table.spec, folder),
        _dataset_name(place, table.dataset, datasets),
        checkpoint=None if checkpoint is None else Path(_located(checkpoint, folder)),
        weights=table.weights,
        name=table.name,
        architecture=table.architecture,
        mean=table.mean,
        std=table.std,
        resize=table.resize,
        crop=table.crop,
        interpolation=table.interpolation,
        class_count=table.class_count,
        seed=table.seed,
        quantized=tuple(_quantized(place, table.quantized, folder)) or None,
    )


def _quantized(place: str, files: Mapping[str, str], folder: Path) -> Iterator[tuple[str, Path]]:
    """The checkpoints with dequantized weights, by name."""
    for name, file in files.items():
        path = Path(_located(file, folder))
        try:
            check_quantized(name, path)
        except UsageError as error:
            raise UsageError(f"{place}: {error}") from error
        yield name, path


def _require_channels(place: str, table: _NetworkTable) -> None:
    """Refuse a mean and a standard deviation that do not belong together."""
    mean, std = table.mean, table.std
    if mean is None and std is None:
        return
    if mean is None or std is None:
        found, missing = ("std", "mean") if mean is None else ("mean", "std")
        raise UsageError(f"{place}: expected mean and std, found {found} without {missing}")
    for key, numbers in (("mean", mean), ("std", std)):
        if not all(map(math.isfinite, numbers)):
            shown = _shown(list(numbers))
            raise UsageError(f"{place}: {key}: expected finite numbers, found {shown}")
    if len(mean) != len(std):
        raise UsageError(f"{place}: std: expected {len(mean)} numbers as in mean, found {len(std)}")
    if min(std) <= 0:
        raise UsageError(f"{place}: std: expected numbers above 0, found {min(std):g}")


def _require_harmless(place: str, name: str | None) -> None:
    if name is not None and not is_harmless(name):
        raise UsageError(f"{place}: expected a name without control characters, found {name!r}")


def _dataset_name(place: str, wanted: str | None, names: list[str]) -> str:
    if wanted is None:
        if len(names) == 1:
            return names[0]
        raise UsageError(f"{place}: dataset: expected one of {', '.join(names)}, found none")
    if wanted not in names:
        declared = ", ".join(closest_first(wanted, names))
        raise UsageError(f"{place}: dataset: expected one of {declared}, found {wanted!r}")
    return wanted


def _refuse_duplicates(path: Path, networks: tuple[NetworkEntry, ...]) -> None:
    names = [network.name for network in networks if network.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{path}: expected a name of its own for each network, found {name!r} twice"
            )


def _shown(value: object) -> str:
    """The value, no longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to print"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


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
