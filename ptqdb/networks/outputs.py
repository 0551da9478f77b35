"""Check that a network returns one row of logits for one image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptqdb.errors import DataError
from ptqdb.networks.checkpoints import TrainedNetwork
from ptqdb.networks.copies import scratch_copy
from ptqdb.networks.eager import eager


def check_outputs(trained: TrainedNetwork, example: Tensor) -> int:
    """Run the network on one image and return its number of outputs.

    Parameters
    ----------
    example
        One normalized image, (1, channels, height, width), on the network's device.

    Raises
    ------
    DataError
        The network cannot process such an image, or does not return one row of floats.
    """
    taken = " x ".join(map(str, example.shape[1:]))
    try:
        with scratch_copy(trained.module) as scratch, eager(), torch.no_grad():
            output = scratch(example.clone())
    except (Exception, SystemExit) as error:  # a network's own code may raise anything
        reason = (str(error).splitlines() or ["no message"])[0]
        raise DataError(
            f"{trained.name} cannot take an image of {taken}: {type(error).__name__}: {reason}; "
            f"{_reason(error)}"
        ) from error
    fits = isinstance(output, Tensor) and output.ndim == 2 and output.is_floating_point()
    if not fits or output.shape[0] != 1 or output.shape[1] < 1:
        raise DataError(
            f"expected {trained.name} to give logits of shape (1, classes) for one image of "
            f"{taken}, found {_described(output)}; {_remedy(output)}"
        )
    return int(output.shape[1])


def _reason(error: BaseException) -> str:
    """Advice for an error of the network's code."""
    if isinstance(error, SystemExit):
        return "its code exits the process"
    if isinstance(error, RecursionError):
        return "its code recurses without end"
    if "dtype" in str(error) or "scalar type" in str(error):
        return "its weights are float32 here: make its code cast to their dtype, not to a fixed one"
    return "give images of the size and channels that it was trained on"


def _remedy(output: Any) -> str:
    if isinstance(output, Tensor) and output.ndim == 1:
        return "squeeze() drops the dimension of a single image: use flatten(1)"
    return "wrap it in a module that returns the logits"


def _described(output: Any) -> str:
    """Describe an output briefly."""
    if isinstance(output, Tensor):
        kind = str(output.dtype).removeprefix("torch.")
        return f"a tensor of {kind}, shape {tuple(output.shape)}"
    name = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {name} of {', '.join(map(str, list(output)[:5]))}"
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f"a {name} of {len(output)}"
    return f"a {name}"
