"""What a user declares of a study, by options or in a file: its datasets, networks and formats."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ptqdb.datasets.preprocessing import Preprocessing, require_both
from ptqdb.defaults import LAYER_SCOPE, SCOPES
from ptqdb.errors import UsageError
from ptqdb.networks.reference import REFERENCE_NETWORKS
from ptqdb.networks.specs import check_spec
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat
from ptqdb.support.paths import is_file

DEFAULT_CALIBRATION_COUNT = 1024


@dataclass(frozen=True)
class DatasetEntry:
    """Where images are, and which of them are used.

    Attributes
    ----------
    name
        What networks refer to it by, and what the database calls it; None: as its source does.
    path
        Anything that ``--dataset`` takes; None: the images that travel with ptqdb.
    calibration_path
        Where the calibration images are, if elsewhere.
    images
        Evaluate on the first so many; None: on all.
    calibration
        Calibrate on the first so many; None: on 1024, or all where there are fewer.
    split
        Which images are evaluated on; the calibration images are those of ``train``.
    image_column, label_column
        Where their names are unusual.
    channels
        1 or 3 makes every picture grayscale or RGB; None: as the network takes them.
    root, download
        Of a torchvision dataset: where its files are, and whether they may be fetched.
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
    """A network and what is to be said of it; see ``ptqdb.networks.sources.network_source``.

    Attributes
    ----------
    spec
        Anything that ``--network`` takes.
    dataset
        The name of a ``DatasetEntry`` of the same study.
    checkpoint, weights
        A file of weights, or weights by name; at most one of both.
    name, architecture
        What the database calls it, and what it is kin to; derived from the spec by default.
    mean, std
        Per channel, in units of the full range 0..1; both or none.
    resize, crop, interpolation
        See ``Geometry``; None: as the network's own description says.
    class_count, seed
        Of random weights.
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


@dataclass(frozen=True)
class StudyDeclaration:
    """Networks, the images that each is measured on, and the number formats.

    Attributes
    ----------
    networks
        Those that travel with ptqdb when empty.
    scopes
        What to quantize alone, beside everything together.
    """

    datasets: tuple[DatasetEntry, ...]
    networks: tuple[NetworkEntry, ...] = ()
    number_formats: tuple[NumberFormat, ...] = STUDY_GRID
    scopes: tuple[str, ...] = ()
    device: str = "cpu"
    precision: str = "auto"

    def dataset_of(self, network: NetworkEntry) -> DatasetEntry:
        """The dataset that a network of this study is measured on."""
        return next(entry for entry in self.datasets if entry.name == network.dataset)


def entries_of(specs: Sequence[str], said: NetworkEntry) -> tuple[NetworkEntry, ...]:
    """One entry per spec; what else is said belongs to a single one.

    Parameters
    ----------
    said
        What the options say of the network; its own spec is not looked at.

    Raises
    ------
    UsageError
        Something is said, and there is no spec or several.
    """
    options = [field.name for field in fields(said) if field.name not in ("spec", "dataset")]
    given = [name for name in options if getattr(said, name) is not None]
    if given and len(specs) != 1:
        option = given[0].replace("_", "-")
        raise UsageError(
            f"--{option}: expected one --network that it belongs to, found {len(specs) or 'none'}"
        )
    return tuple(replace(said, spec=spec) for spec in dict.fromkeys(specs))


def check_declaration(study: StudyDeclaration) -> None:
    """Refuse what cannot be collected, as far as names tell; PyTorch is not imported for it.

    Raises
    ------
    UsageError
        A scope, device or network that does not exist, or a number that means nothing.
    """
    check_scopes(study.scopes)
    check_device(study.device)
    for entry in study.networks:
        check_network(entry)


def check_network(entry: NetworkEntry) -> None:
    """Refuse a network whose name, weights or preprocessing cannot be meant.

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


def check_scopes(scopes: Sequence[str]) -> None:
    """Refuse a scope that does not exist.

    Raises
    ------
    UsageError
        The message names the valid ones.
    """
    known = (*SCOPES, LAYER_SCOPE)
    for scope in scopes:
        if scope not in known:
            raise UsageError(f"--scopes: expected any of {', '.join(known)}, found {scope!r}")


def check_device(device: str) -> None:
    """Refuse the name of a device that is misspelled.

    Raises
    ------
    UsageError
        The message names the valid ones.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device: expected cpu, cuda or cuda:N, found {device!r}")
