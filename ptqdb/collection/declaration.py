"""A study as declared by options or in a file: its datasets, networks and formats."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ptqdb.datasets.preprocessing import Preprocessing, require_both
from ptqdb.defaults import DEFAULT_PROBE_COUNT, LAYER_SCOPE, SCOPES
from ptqdb.errors import UsageError
from ptqdb.networks.devices import check_device
from ptqdb.networks.reference import REFERENCE_NETWORKS
from ptqdb.networks.specs import check_spec
from ptqdb.quantization.formats import STUDY_FORMATS, Format, refuse_taken
from ptqdb.support.paths import is_file
from ptqdb.support.text import is_harmless

DEFAULT_CALIBRATION_COUNT = 1024


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset, and the selection of its images.

    Attributes
    ----------
    name
        Its name in the study file and in the database; None: the name of its source.
    path
        Anything that ``--dataset`` takes; None: the images that ship with ptqdb.
    calibration_path
        The calibration images, if not in `path`.
    images
        Number of images to evaluate on, the first ones; None: all.
    calibration
        Number of images for calibration, the first ones; None: 1024, or all if there are fewer.
    split
        The split to evaluate on; the calibration images are from ``train``.
    image_column, label_column
        Column names, if unusual.
    channels
        1 or 3 converts every image to grayscale or RGB; None: as the network requires.
    root, download
        For a torchvision dataset: the folder of its files, and whether to download them.
    """

    name: str | None = None
    path: str | None = None
    calibration_path: str | None = None
    images: int | None = None
    calibration: int | None = None
    split: str = "test"
    image_column: str | None = None
    label_column: str | None = None
    channels: int | None = None
    root: Path | None = None
    download: bool = False


@dataclass(frozen=True)
class NetworkEntry:
    """A network with its options; see ``ptqdb.networks.sources.network_source``.

    Attributes
    ----------
    spec
        Anything that ``--network`` takes.
    dataset
        The name of a ``DatasetEntry`` of the same study.
    checkpoint, weights
        A file of weights, or weights by name; at most one of the two.
    name, architecture
        Its name in the database, and its family; by default derived from the spec.
    mean, std
        Per channel, in units of the full range 0..1; both or neither.
    resize, crop, interpolation
        See ``Geometry``; None: from the network's own description.
    class_count, seed
        For random weights.
    quantized
        Names and files of checkpoints with dequantized weights, each a format of this network; see
        ``ptqdb.collection.quantized_checkpoints``.
    """

    spec: str
    dataset: str | None = None
    checkpoint: Path | None = None
    weights: str | None = None
    name: str | None = None
    architecture: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    crop: int | None = None
    interpolation: str | None = None
    class_count: int | None = None
    seed: int | None = None
    quantized: tuple[tuple[str, Path], ...] | None = None


@dataclass(frozen=True)
class StudyDeclaration:
    """Networks with their images, and the number formats.

    Attributes
    ----------
    networks
        Empty: the networks that ship with ptqdb.
    scopes
        What to quantize alone, in addition to everything together.
    until
        Standard error of the loss at which the evaluation of a cell stops; None: all images.
    probe
        Number of calibration images to probe each format on, at most all; 0: no probe.
    sensitivity
        Whether to measure the sensitivity of each layer of the float network, too.
    """

    datasets: tuple[DatasetEntry, ...]
    networks: tuple[NetworkEntry, ...] = ()
    number_formats: tuple[Format, ...] = STUDY_FORMATS
    scopes: tuple[str, ...] = ()
    device: str = "cpu"
    precision: str = "auto"
    until: float | None = None
    probe: int = DEFAULT_PROBE_COUNT
    sensitivity: bool = False

    def dataset_of(self, network: NetworkEntry) -> DatasetEntry:
        """Return the dataset of a network of this study."""
        return next(entry for entry in self.datasets if entry.name == network.dataset)


def network_entries(specs: Sequence[str], said: NetworkEntry) -> tuple[NetworkEntry, ...]:
    """Return one entry per spec; other options need exactly one spec.

    Parameters
    ----------
    said
        The options of the network; its spec is ignored.

    Raises
    ------
    UsageError
        Options are given with no spec or several.
    """
    options = [field.name for field in fields(said) if field.name not in ("spec", "dataset")]
    given = [name for name in options if getattr(said, name) is not None]
    if given and len(specs) != 1:
        option = given[0].replace("_", "-")
        raise UsageError(
            f"--{option}: expected exactly one --network, found {len(specs) or 'none'}"
        )
    return tuple(replace(said, spec=spec) for spec in dict.fromkeys(specs))


def check_declaration(study: StudyDeclaration) -> None:
    """Refuse invalid names and numbers, without importing PyTorch.

    Raises
    ------
    UsageError
        A scope, device or network that does not exist, or an invalid number.
    """
    check_scopes(study.scopes)
    check_until(study.until)
    check_probe(study.probe)
    check_device(study.device)
    for entry in study.networks:
        check_network(entry)


def check_network(entry: NetworkEntry) -> None:
    """Refuse a network whose name, weights or preprocessing are invalid.

    Raises
    ------
    UsageError
        The message names the option.
    """
    has_file = entry.weights is not None and is_file(Path(entry.weights))
    travels = entry.spec in REFERENCE_NETWORKS and entry.weights is None
    check_spec(
        entry.spec,
        has_checkpoint=entry.checkpoint is not None or has_file or travels,
        weights=None if has_file else entry.weights,
    )
    require_both(entry.mean, entry.std)
    if entry.mean is not None and entry.std is not None:
        Preprocessing(entry.mean, entry.std)


def quantized_checkpoints(said: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    """Return names and files of ``--quantized NAME=FILE``.

    Raises
    ------
    UsageError
        No name, no such file, or a name that a format has already.

    Examples
    --------
    >>> quantized_checkpoints(["gptq4"])
    Traceback (most recent call last):
        ...
    ptqdb.errors.UsageError: quantized: expected NAME=FILE, found 'gptq4'
    """
    found = {}
    for each in said:
        name, sign, file = each.partition("=")
        if not (sign and name and file):
            raise UsageError(f"--quantized: expected NAME=FILE, found {each!r}")
        if name in found:
            raise UsageError(f"--quantized: expected each name once, found {name} twice")
        found[name] = Path(file)
    for name, path in found.items():
        check_quantized(name, path)
    return tuple(found.items())


def check_quantized(name: str, path: Path) -> None:
    """Refuse a name that cannot be that of a scheme, or a missing file.

    Raises
    ------
    UsageError
        The message says what is wrong.
    """
    if not is_harmless(name) or any(sign in name for sign in ",@:= "):
        raise UsageError(
            f"--quantized: expected a name without spaces, commas and @, such as gptq4, found "
            f"{name!r}"
        )
    refuse_taken("--quantized", name)
    if not is_file(path):
        raise UsageError(f"--quantized: no file {path} for {name}")


def check_scopes(scopes: Sequence[str]) -> None:
    """Refuse an unknown scope.

    Raises
    ------
    UsageError
        The message lists the valid ones.
    """
    known = (*SCOPES, LAYER_SCOPE)
    for scope in scopes:
        if scope not in known:
            raise UsageError(f"--scopes: expected any of {', '.join(known)}, found {scope!r}")


def check_probe(image_count: int) -> None:
    """Refuse a negative number of images.

    Raises
    ------
    UsageError
        It is negative.
    """
    if image_count < 0:
        raise UsageError(
            f"--probe: expected a number of images, or 0 for none, found {image_count}"
        )


def check_until(until: float | None) -> None:
    """Refuse a standard error that no loss can have.

    Raises
    ------
    UsageError
        It is not between 0 and 1.
    """
    if until is not None and not 0 < until < 1:
        raise UsageError(f"--until: expected a number between 0 and 1, found {until:g}")
