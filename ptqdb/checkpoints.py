"""Trained weights as safetensors whose metadata say how to build and to feed the network."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.networks import reference_network


@dataclass(frozen=True)
class NetworkDescription:
    """What a checkpoint says of its network.

    Attributes
    ----------
    name
        A reference network's name.
    width
        Factor on every hidden channel count.
    class_count
        Number of logits.
    mean, std
        Per channel, in units of the full range 0..1: the network is fed ``(x / 255 - mean) / std``.
    """

    name: str
    width: float
    class_count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TrainedNetwork:
    """A float network in evaluation mode with its description and its file's SHA-256."""

    description: NetworkDescription
    module: nn.Module
    checkpoint_sha256: str

    @property
    def architecture(self) -> str:
        """What the network is kin to; see ``ReferenceNetwork``."""
        return reference_network(self.description.name).architecture


def save_checkpoint(
    path: Path, description: NetworkDescription, weights: dict[str, Tensor]
) -> None:
    """Write the weights and their description; the same content gives the same bytes."""
    metadata = {"ptqdb": json.dumps(asdict(description))}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata)
    path.chmod(0o644)  # safetensors writes for the owner alone


def load_checkpoint(path: Path) -> TrainedNetwork:
    """The network that a checkpoint describes, with its weights, in evaluation mode.

    Raises
    ------
    DataError
        Not a safetensors file, no description in it, or keys and shapes that differ from
        the network's; the message lists them.
    """
    description = read_description(path)
    weights = load_file(path)
    module = reference_network(description.name).build(description.width, description.class_count)
    load_weights(module, weights, path)
    return TrainedNetwork(description, module.eval(), checkpoint_sha256(path))


def read_description(path: Path) -> NetworkDescription:
    """What a checkpoint says of its network, without reading the weights.

    Raises
    ------
    DataError
        Not a safetensors file, or no description in it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"expected a safetensors file, found {path}: {error}") from error
    if "ptqdb" not in metadata:
        raise DataError(
            f"expected a checkpoint written by 'ptqdb train', found no description in {path}"
        )
    fields = json.loads(metadata["ptqdb"])
    fields |= {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])}
    return NetworkDescription(**fields)


def checkpoint_sha256(path: Path) -> str:
    """The identity of a checkpoint: SHA-256 of its file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy the weights into the module.

    Raises
    ------
    DataError
        Missing, unexpected or misshapen keys; the message lists them.
    """
    expected = module.state_dict()
    faults = [f"missing {name}" for name in expected if name not in weights]
    faults += [f"unexpected {name}" for name in weights if name not in expected]
    faults += [
        f"{name} of shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in weights.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if faults:
        raise DataError(f"the keys of {path} do not fit the network: {'; '.join(faults)}")
    module.load_state_dict(weights)
