"""Turns a declaration into a request: finds networks and reads images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ptqdb.collection.declaration import (
    DEFAULT_CALIBRATION_COUNT,
    DatasetEntry,
    NetworkEntry,
    StudyDeclaration,
    check_declaration,
    check_probe,
    check_scopes,
    check_until,
)
from ptqdb.collection.plan import CollectionRequest, NetworkTask
from ptqdb.collection.quantized_checkpoints import QuantizedCheckpoint
from ptqdb.datasets.images import ImageSet
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.datasets.reading import read_images
from ptqdb.defaults import DEFAULT_PROBE_COUNT
from ptqdb.networks.devices import require_device
from ptqdb.networks.embedded import (
    DATASET_NAME,
    embedded_checkpoints,
    embedded_folder,
    embedded_network,
)
from ptqdb.networks.reference import REFERENCE_NETWORKS
from ptqdb.networks.sources import NetworkSource, network_source
from ptqdb.quantization.formats import STUDY_FORMATS, Format


def collection_request(study: StudyDeclaration, *, anew: bool = False) -> CollectionRequest:
    """Find the networks, read the images, select the formats.

    Parameters
    ----------
    anew
        Whether to delete existing results and collect them again.

    Raises
    ------
    UsageError
        A network, dataset, format, scope or device that does not exist (the message lists the
        valid ones), two networks with one name, or a network with unknown preprocessing.
    DataError
        A checkpoint or an image that cannot be read, or fewer images than requested.
    """
    check_declaration(study)
    networks = study.networks or tuple(NetworkEntry(name) for name in embedded_checkpoints())
    found = [(entry, find_network(entry)) for entry in networks]
    images = _Images()
    return build_request(
        [
            images.task(source, study.dataset_of(entry), entry.quantized or ())
            for entry, source in found
        ],
        number_formats=study.number_formats,
        scopes=study.scopes,
        device=study.device,
        precision=study.precision,
        until=study.until,
        probe=study.probe,
        sensitivity=study.sensitivity,
        anew=anew,
    )


def build_request(
    tasks: Sequence[NetworkTask],
    *,
    number_formats: Sequence[Format] = STUDY_FORMATS,
    scopes: Sequence[str] = (),
    device: str = "cpu",
    precision: str = "auto",
    until: float | None = None,
    probe: int = DEFAULT_PROBE_COUNT,
    sensitivity: bool = False,
    anew: bool = False,
) -> CollectionRequest:
    """Return the request to quantize networks in the given formats and scopes.

    Raises
    ------
    UsageError
        A scope or device that does not exist, an invalid standard error or number of images, or two
        networks with one name.
    """
    check_scopes(scopes)
    check_until(until)
    check_probe(probe)
    require_device(device)
    return CollectionRequest(
        tasks=tuple(tasks),
        number_formats=tuple(number_formats),
        scopes=tuple(dict.fromkeys(("all", *scopes))),
        device=device,
        precision=precision,
        replace=anew,
        until=until,
        probe=probe,
        sensitivity=sensitivity,
    )


def find_network(entry: NetworkEntry) -> NetworkSource:
    """Return the network; reference networks without given weights get the embedded ones.

    Raises
    ------
    UsageError
        No such network, or its preprocessing is unknown.
    DataError
        The checkpoint cannot be read.
    """
    checkpoint = entry.checkpoint
    if entry.spec in REFERENCE_NETWORKS and checkpoint is None and entry.weights is None:
        checkpoint = embedded_network(entry.spec).checkpoint
    source = network_source(
        entry.spec,
        checkpoint=checkpoint,
        weights=entry.weights,
        name=entry.name,
        architecture=entry.architecture,
        mean=entry.mean,
        std=entry.std,
        resize=entry.resize,
        crop=entry.crop,
        interpolation=entry.interpolation,
        class_count=entry.class_count,
        seed=entry.seed or 0,
    )
    source.known_preprocessing()
    return source


def calibration_images(
    source: NetworkSource, path: str, *, count: int | None = None, image_column: str | None = None
) -> ImageSet:
    """Read images, labelled or not, in the form that a network requires.

    Parameters
    ----------
    path
        Anything that ``--calibration-dataset`` takes.
    count
        Number of images, the first ones; None: 1024, or all if there are fewer.

    Raises
    ------
    UsageError
        There are no such images.
    DataError
        They cannot be read, or are fewer than requested.
    """
    preprocessing = source.known_preprocessing()
    channels = preprocessing.channel_count
    return read_images(
        path,
        "train",
        geometry=preprocessing.geometry,
        channels=channels if channels in (1, 3) else None,
        count=count,
        at_most=DEFAULT_CALIBRATION_COUNT if count is None else None,
        image_column=image_column,
        labelled=False,
    )


class _Images:
    """Cache of images by location and preprocessing."""

    def __init__(self) -> None:
        self._read: dict[object, ImageSet] = {}

    def task(
        self,
        source: NetworkSource,
        entry: DatasetEntry,
        quantized: Sequence[tuple[str, Path]] = (),
    ) -> NetworkTask:
        """Return the network with its images and its checkpoints of dequantized weights."""
        preprocessing = source.known_preprocessing()
        count = entry.calibration
        at_most = DEFAULT_CALIBRATION_COUNT if count is None else None
        calibration = replace(entry, path=entry.calibration_path or entry.path, split="train")
        return NetworkTask(
            source,
            self._of(entry, preprocessing, count=entry.images),
            self._of(calibration, preprocessing, count=count, at_most=at_most),
            tuple(QuantizedCheckpoint(*each) for each in quantized),
        )

    def _of(
        self,
        entry: DatasetEntry,
        preprocessing: Preprocessing,
        *,
        count: int | None,
        at_most: int | None = None,
    ) -> ImageSet:
        channels = entry.channels
        if channels is None and preprocessing.channel_count in (1, 3):
            channels = preprocessing.channel_count
        key = (entry, preprocessing.geometry, channels, count, at_most)
        if key not in self._read:
            self._read[key] = read_images(
                embedded_folder() if entry.path is None else entry.path,
                entry.split,
                geometry=preprocessing.geometry,
                channels=channels,
                count=count,
                at_most=at_most,
                image_column=entry.image_column,
                label_column=entry.label_column,
                name=DATASET_NAME if entry.path is None else entry.name,
                root=entry.root,
                download=entry.download,
            )
        return self._read[key]
