"""From what a user asks for to a request that can be collected: networks, images, formats."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch

from ptqdb.collection.plan import CollectionRequest
from ptqdb.embedded import embedded_checkpoints, embedded_images, embedded_network
from ptqdb.errors import UsageError
from ptqdb.networks import REFERENCE_NETWORKS
from ptqdb.networks.sources import NetworkSource, network_source
from ptqdb.number_formats import matching
from ptqdb.quantization.layers import SCOPES


@dataclass(frozen=True)
class NetworkOptions:
    """What can be said of one network beside its spec; see ``network_source``."""

    checkpoint: Path | None = None
    weights: str | None = None
    name: str | None = None
    architecture: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    crop: int | None = None
    seed: int | None = None

    @property
    def given(self) -> list[str]:
        """The options that are not left to their defaults, as a user writes them."""
        return [f"--{part.name}" for part in fields(self) if getattr(self, part.name) is not None]


NOTHING_SAID = NetworkOptions()


def networks_of(
    specs: tuple[str, ...], options: NetworkOptions = NOTHING_SAID
) -> tuple[NetworkSource, ...]:
    """The networks that a user asks for, found and not loaded yet.

    Parameters
    ----------
    specs
        See ``network_source``. A reference network's name alone means the weights that travel
        with ptqdb; no spec means every network that does.
    options
        Of a single spec.

    Raises
    ------
    UsageError
        A spec or an option that does not exist, options with no spec or with several, or a
        network of which nobody says how it is fed.
    DataError
        A checkpoint that cannot be read, or code that fails while it is imported.
    """
    if options.given and len(specs) != 1:
        raise UsageError(
            f"{options.given[0]}: expected one --network that it belongs to, found "
            f"{len(specs) or 'none'}"
        )
    if not specs:
        return tuple(embedded_network(name) for name in embedded_checkpoints())
    return tuple(_network(spec, options) for spec in dict.fromkeys(specs))


def _network(spec: str, options: NetworkOptions) -> NetworkSource:
    """One network, with the embedded weights where a reference network is to have no others."""
    checkpoint, weights = options.checkpoint, options.weights
    if spec in REFERENCE_NETWORKS and checkpoint is None and weights is None:
        checkpoint = embedded_network(spec).checkpoint
    source = network_source(
        spec,
        checkpoint=checkpoint,
        weights=weights,
        name=options.name,
        architecture=options.architecture,
        mean=options.mean,
        std=options.std,
        resize=options.resize,
        crop=options.crop,
        seed=options.seed or 0,
    )
    source.known_preprocessing()
    return source


def embedded_request(
    *,
    networks: tuple[NetworkSource, ...] = (),
    number_formats: str = "*",
    image_count: int | None = None,
    calibration_count: int | None = None,
    scopes: tuple[str, ...] = (),
    device: str = "cpu",
    precision: str = "auto",
    replace: bool = False,
) -> CollectionRequest:
    """The embedded study, a part of it, or other networks on its images.

    Parameters
    ----------
    networks
        See ``networks_of``; those that travel with ptqdb when empty.
    number_formats
        Comma-separated names or globs.
    image_count, calibration_count
        Of the test and the training images that travel with ptqdb, the first so many; all by
        default.
    scopes
        What to quantize alone, beside everything together.

    Raises
    ------
    UsageError
        An unknown format, scope or device; the message names the valid ones. Or two networks of
        one name.
    DataError
        More images asked for than there are.
    """
    for scope in scopes:
        if scope not in SCOPES:
            raise UsageError(f"--scopes: expected any of {', '.join(SCOPES)}, found {scope!r}")
    _check_device(device)
    images, calibration = embedded_images("test"), embedded_images("train")
    return CollectionRequest(
        networks=networks or networks_of(()),
        images=images if image_count is None else images.head(image_count),
        calibration=calibration
        if calibration_count is None
        else calibration.head(calibration_count),
        number_formats=matching(number_formats),
        scopes=tuple(dict.fromkeys(("all", *scopes))),
        device=device,
        precision=precision,
        replace=replace,
    )


def _check_device(device: str) -> None:
    """Refuse a device that is misspelled or absent."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"--device: expected cpu, cuda or cuda:N, found {device!r}") from error
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"--device: expected cpu, cuda or cuda:N, found {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device: found no GPU for {device!r}; give cpu")
