"""The study that travels with ptqdb: five small trained networks and the images they saw."""

from pathlib import Path

import torch

from ptqdb.collection.plan import CollectionRequest
from ptqdb.datasets import read_parquet
from ptqdb.errors import UsageError
from ptqdb.networks import REFERENCE_NETWORKS, reference_network
from ptqdb.number_formats import matching
from ptqdb.quantization.layers import SCOPES
from ptqdb.resources import data_folder

DATASET_NAME = "cifar10"


def embedded_folder() -> Path:
    """Holds ``NAME.safetensors``, ``test-*.parquet`` and ``train-*.parquet``."""
    return data_folder() / "embedded"


def embedded_checkpoints() -> dict[str, Path]:
    """The checkpoints that travel with ptqdb, in the order of the reference networks."""
    paths = {name: embedded_folder() / f"{name}.safetensors" for name in REFERENCE_NETWORKS}
    return {name: path for name, path in paths.items() if path.exists()}


def embedded_request(
    *,
    networks: tuple[str, ...] = (),
    number_formats: str = "*",
    image_count: int | None = None,
    calibration_count: int | None = None,
    scopes: tuple[str, ...] = (),
    device: str = "cpu",
    precision: str = "auto",
    replace: bool = False,
) -> CollectionRequest:
    """The embedded study, or a part of it.

    Parameters
    ----------
    networks
        Names; all when empty.
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
        An unknown network, format, scope or device; the message names the valid ones.
    DataError
        More images asked for than there are.
    """
    checkpoints = embedded_checkpoints()
    chosen = networks or tuple(checkpoints)
    for name in chosen:
        if reference_network(name).name not in checkpoints:
            raise UsageError(
                f"no weights of {name} travel with ptqdb; choose from {', '.join(checkpoints)}"
            )
    for scope in scopes:
        if scope not in SCOPES:
            raise UsageError(f"--scopes: expected any of {', '.join(SCOPES)}, found {scope!r}")
    _check_device(device)
    images = read_parquet(embedded_folder(), "test", name=DATASET_NAME)
    calibration = read_parquet(embedded_folder(), "train", name=DATASET_NAME)
    return CollectionRequest(
        checkpoints=tuple(checkpoints[name] for name in dict.fromkeys(chosen)),
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
