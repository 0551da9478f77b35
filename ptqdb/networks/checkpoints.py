"""Checkpoints: read weights from a file, and write those that ptqdb trained."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.defaults import MOST_CLASSES
from ptqdb.errors import DataError
from ptqdb.support.paths import is_there, regular_file, write_beside

WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module"),
    *("weights", "params", "ema", "model_ema", "state_dict_ema"),
)
"""Keys under which training scripts save the weights, the most likely first."""
DEEPEST_WRAPPER = 4
_WIDEST = 1024
"""Largest width of a reference network; nothing wider fits into memory."""
PICKLE_SIGNATURES = (b"PK\x03\x04", b"\x80")
"""First bytes of torch files: zip archives, and bare pickles from before 2020."""


@dataclass(frozen=True)
class NetworkDescription:
    """The description of the network in a checkpoint that ptqdb trained.

    Attributes
    ----------
    name
        A reference network's name.
    width
        Factor on every hidden channel count.
    class_count
        Number of logits.
    mean, std
        Per channel, in units of the full range 0..1: the input is ``(x / 255 - mean) / std``.
    training
        How it was trained, as recorded by `ptqdb.networks.training.Training`; None if unknown.
    """

    name: str
    width: float
    class_count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrainedNetwork:
    """A float network in evaluation mode, with the hash of its weights and its preprocessing.

    Attributes
    ----------
    name, architecture
        Its name in the database, and its family of networks.
    checkpoint_sha256
        Of the file, or of the weights if there is no file.
    remarks
        Remarks for the user from loading, one line each.
    """

    name: str
    architecture: str
    module: nn.Module
    checkpoint_sha256: str
    preprocessing: Preprocessing
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """Tensors of a file by key, with floats cast to float32.

    Attributes
    ----------
    remarks
        Remarks on the file, one line each.
    """

    tensors: Mapping[str, Tensor]
    remarks: tuple[str, ...] = ()


def save_checkpoint(
    path: Path, description: NetworkDescription, weights: dict[str, Tensor]
) -> None:
    """Write the weights and their description; equal content gives equal bytes.

    The file is written under another name and renamed, so it is complete at any time.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    metadata = {"ptqdb": json.dumps(asdict(description))}
    with write_beside(path) as partial:
        save_file(
            {name: tensor.contiguous() for name, tensor in weights.items()}, partial, metadata
        )
        partial.chmod(0o644)  # safetensors makes it readable by the owner only


def read_description(path: Path) -> NetworkDescription | None:
    """Return a checkpoint's description, or None if ``ptqdb train`` did not write it.

    Raises
    ------
    DataError
        No such file, or a damaged safetensors file.
    """
    if _begins_as_pickle(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _not_weights(path, error) from error
    if "ptqdb" not in metadata:
        return None
    try:
        return _described(json.loads(metadata["ptqdb"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = error if isinstance(error, DataError) else type(error).__name__
        raise DataError(
            f"expected the description that `ptqdb train` writes in {path}, found another "
            f"({reason}); save the weights again without it"
        ) from error


def _described(fields: Any) -> NetworkDescription:
    """The description, if its values have the types that `save_checkpoint` writes."""
    if not isinstance(fields, dict):
        raise DataError(f"a {type(fields).__name__}")
    name, width, class_count = (fields.pop(key) for key in ("name", "width", "class_count"))
    mean, std = (_numbers(key, fields.pop(key)) for key in ("mean", "std"))
    training = fields.pop("training", None)  # absent in checkpoints of older versions
    if fields:
        raise DataError(f"the unknown {', '.join(map(repr, fields))}")
    if not isinstance(name, str):
        raise DataError(f"the name {name!r}")
    if not _is_number(width) or not 0 < width <= _WIDEST:
        raise DataError(f"the width {width!r}")
    if (
        not isinstance(class_count, int)
        or isinstance(class_count, bool)
        or not 0 < class_count <= MOST_CLASSES
    ):
        raise DataError(f"the class_count {class_count!r}")
    if len(mean) != len(std) or not mean or min(std) <= 0:
        raise DataError(f"the mean {mean} and the std {std}")
    if not isinstance(training, dict | None):
        raise DataError(f"the training {training!r}")
    return NetworkDescription(name, width, class_count, mean, std, training)


def _numbers(key: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(map(_is_number, values)):
        raise DataError(f"the {key} {values!r}")
    return tuple(values)


def _is_number(value: Any) -> bool:
    """Whether it is a number with a finite square."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e150


def element_count(path: Path) -> int:
    """Return the total number of elements in a safetensors file, without reading them.

    Raises
    ------
    DataError
        No such file, or another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (SafetensorError, OSError) as error:
        raise _not_weights(path, error) from error


def read_weights(path: Path) -> Weights:
    """Read the tensors of a safetensors or torch file; the content decides, not the name.

    Torch files are always read with ``weights_only=True``: no code in them is run.

    Raises
    ------
    DataError
        No such file, another format, content other than tensors, or no tensor.
    """
    if _begins_as_pickle(path):
        tensors, remarks = _unwrapped(_torch_content(path), path)
    else:
        try:
            tensors, remarks = load_file(path), []
        except (SafetensorError, OSError) as error:
            raise _not_weights(path, error) from error
        if not tensors:
            raise DataError(f"expected weights in {path}, found no tensor")
    cast, said = _as_float32(tensors)
    return Weights(cast, (*remarks, *said))


def checkpoint_sha256(path: Path) -> str:
    """Return the SHA-256 of a checkpoint file.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    try:
        with regular_file(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _not_weights(path, error) from error


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights without a file: over keys, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(name for name, value in tensors.items() if isinstance(value, Tensor)):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _begins_as_pickle(path: Path) -> bool:
    """Whether it is a torch file; a safetensors file begins with the length of its header."""
    try:
        with regular_file(path).open("rb") as file:
            beginning = file.read(10)
    except OSError as error:
        raise _not_weights(path, error) from error
    # a header of 128 characters begins with 0x80, too, but an opening brace follows
    return beginning.startswith(PICKLE_SIGNATURES) and beginning[8:9] != b"{"


def _not_weights(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError) or not is_there(path):
        return DataError(f"expected a checkpoint, found no file {path}")
    if path.is_dir():
        return DataError(f"expected a checkpoint, found the folder {path}; give the file in it")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"expected a safetensors file or a torch file, found {path}: {reason}")


def _torch_content(path: Path) -> Any:
    """Load the content of a torch file, with tensors on the CPU."""
    try:
        with path.open("rb") as file:  # given a path, torch reads *.safetensors as such
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if "Weights only load failed" not in str(error):
            raise _not_weights(path, error) from error
        raise _more_than_weights(path, str(error)) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise _more_than_weights(path, "GLOBAL TorchScript") from error
        raise _not_weights(path, error) from error
    except (EOFError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise _not_weights(path, error) from error


def _more_than_weights(path: Path, message: str) -> DataError:
    """An error that names the object which is not a tensor: torch's message has it after GLOBAL."""
    _, _, after = message.partition("GLOBAL ")
    what = f" ({after.split()[0].rstrip('.,')})" if after.split() else ""
    return DataError(
        f"expected only weights in {path}, found an object that runs code when it is "
        f"read{what}: ptqdb never unpickles code; if you trust the file, load it yourself and "
        "save its state_dict() with torch.save or as safetensors"
    )


def _unwrapped(content: Any, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in the content that a training script saved, and the keys of their wrappers."""
    trail: list[str] = []
    remarks: list[str] = []
    for _ in range(DEEPEST_WRAPPER):
        if not isinstance(content, Mapping):
            break
        inner = [key for key, value in content.items() if _holds_weights(value)]
        known = [key for key in WRAPPERS if key in inner]
        if not known and _tensors(content):
            break
        chosen = (known or inner)[:1]
        if not chosen:
            break
        others = [f"{key!r}" for key in inner if key != chosen[0] and key in WRAPPERS]
        if others:
            remarks.append(f"used {chosen[0]!r}; weights are also under {', '.join(others)}")
        trail.append(str(chosen[0]))
        content = content[chosen[0]]
    tensors = _tensors(content)
    if not tensors:
        raise DataError(
            f"expected keys with tensors in {path}, found {_kind(content)}; save the network's "
            "state_dict()"
        )
    if trail:
        remarks.insert(0, f"weights under {'.'.join(trail)!r}")
    left_out = [str(key) for key in content if key not in tensors]
    if left_out:
        remarks.append(f"skipped entries that are not tensors: {', '.join(left_out)}")
    return tensors, remarks


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def _holds_weights(content: Any, depth: int = DEEPEST_WRAPPER) -> bool:
    """Whether a mapping has tensors under string keys, directly or in nested mappings."""
    if depth == 0 or not isinstance(content, Mapping):
        return False
    return bool(_tensors(content)) or any(
        isinstance(key, str) and _holds_weights(value, depth - 1) for key, value in content.items()
    )


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {', '.join(map(str, list(content)[:5]))}" if content else "an empty dict"
    return f"a {type(content).__name__}"


def _as_float32(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Cast all floats to float32; return remarks on other types."""
    others: dict[str, int] = {}
    cast = {}
    for name, tensor in tensors.items():
        cast[name] = tensor.detach()
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            others[kind] = others.get(kind, 0) + 1
            cast[name] = cast[name].float()
    said = [f"{count} tensors cast from {kind} to float32" for kind, count in others.items()]
    return cast, said
