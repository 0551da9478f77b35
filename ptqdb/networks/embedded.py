"""The study that ships with the package: five small trained networks and their images."""

from pathlib import Path

from ptqdb.errors import UsageError
from ptqdb.networks.reference import REFERENCE_NETWORKS, reference_network
from ptqdb.networks.sources import NetworkSource, network_source
from ptqdb.resources import data_folder

DATASET_NAME = "cifar10"


def embedded_folder() -> Path:
    """Return the folder with ``NAME.safetensors``, ``test-*.parquet`` and ``train-*.parquet``."""
    return data_folder() / "embedded"


def embedded_checkpoints() -> dict[str, Path]:
    """Return the checkpoints that ship with the package, in the order of the reference networks."""
    paths = {name: embedded_folder() / f"{name}.safetensors" for name in REFERENCE_NETWORKS}
    return {name: path for name, path in paths.items() if path.exists()}


def embedded_network(name: str) -> NetworkSource:
    """Return a reference network with the weights that ship with the package.

    Raises
    ------
    UsageError
        An unknown network, or one without such weights; the message names the valid ones.
    """
    checkpoints = embedded_checkpoints()
    if reference_network(name).name not in checkpoints:
        raise UsageError(
            f"no weights of {name} ship with ptqdb; give --checkpoint FILE, or choose from "
            f"{', '.join(checkpoints)}"
        )
    return network_source(name, checkpoint=checkpoints[name])
