"""Match the keys of a checkpoint to those of a network."""

from collections.abc import Mapping
from itertools import zip_longest

import torch
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.support.text import is_harmless

FAULTS_SHOWN = 10
COMPILED = "_orig_mod."
"""Prefix that ``torch.compile`` inserts into keys, at any level."""
COUNTER = "num_batches_tracked"
"""Buffer of batch norm; unused in evaluation, and absent from older checkpoints."""


def fit_keys(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Strip prefixes from the keys if they then fit better; return weights and remarks.

    A prefix is stripped only if most keys have it and more keys fit without it.

    >>> fit_keys({"a": torch.ones(1)}, {"module.a": torch.ones(1)})[1]
    ["keys: prefix 'module.' stripped"]
    """
    ways = [
        (compiled, prefix, stripped)
        for compiled in ("", COMPILED)
        for prefix in ("", *_prefixes(expected, _without_compiled(compiled, given)))
        if (stripped := _stripped(compiled, prefix, given)) is not None
    ]
    # the first of equals: strip as little as possible
    compiled, prefix, weights = max(ways, key=lambda way: _fit_count(expected, way[2]))
    remarks = [f"keys: {compiled!r} of a compiled network stripped"] if compiled else []
    remarks += [f"keys: prefix {prefix!r} stripped"] if prefix else []
    return weights, remarks


def faults(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Return missing, unexpected and misshapen keys, interleaved; empty if the weights fit."""
    missing = [
        f"missing {name}"
        for name in expected
        if name not in weights and name.rpartition(".")[2] != COUNTER
    ]
    unexpected = [f"unexpected {name}" for name in weights if name not in expected]
    misshapen = []
    for name in weights.keys() & expected.keys():
        found, wanted = weights[name], expected[name]
        if found.shape != wanted.shape:
            misshapen.append(
                f"{name} of shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
            )
        elif not _is_plain(found) or found.is_floating_point() < wanted.is_floating_point():
            kinds = (str(part.dtype).removeprefix("torch.") for part in (found, wanted))
            misshapen.append(f"{name} of type {' instead of '.join(kinds)}")
    # interleaved, so the first few show both missing and unexpected keys
    in_turn = zip_longest(missing, unexpected, sorted(misshapen))
    return [fault for turn in in_turn for fault in turn if fault is not None]


def list_keys(found: list[str]) -> str:
    """List the first faults and the number of further ones."""
    more = len(found) - FAULTS_SHOWN
    return "; ".join(found[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def other_class_count(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> tuple[int, int] | None:
    """Return the class counts of the weights and of the network, if only those differ.

    That is: no key is missing or unexpected, and the misshapen tensors, weight and bias of a
    classifier, differ only in the size of their first dimension, all alike.
    """
    differing = set()
    for name, tensor in weights.items():
        if name not in expected:
            return None
        found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
        if found == wanted:
            continue
        if found[1:] != wanted[1:] or not found:
            return None
        differing.add((found[0], wanted[0]))
    absent = [name for name in expected if name not in weights]
    if len(differing) != 1 or any(name.rpartition(".")[2] != COUNTER for name in absent):
        return None
    return differing.pop()


def load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy matching weights into the module."""
    module.load_state_dict(weights, strict=False)


def refuse_infinite(module: nn.Module, source: str) -> None:
    """Raise if weights or batch-norm statistics are not finite.

    Other buffers, such as attention masks, may contain infinity.

    Raises
    ------
    DataError
        NaN or infinity is found; the message names the key.
    """
    buffers = (
        (name, tensor)
        for name, tensor in module.named_buffers()
        if name.rpartition(".")[2] in ("running_mean", "running_var")
    )
    for name, tensor in (*module.named_parameters(), *buffers):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.detach()).all()):
            raise DataError(
                f"expected finite weights in {source}, found NaN or infinity in {name}; "
                "give a checkpoint from before the training diverged"
            )


def refuse_control_characters(module: nn.Module, source: str) -> None:
    """Raise if the name of a layer or parameter cannot be displayed.

    Raises
    ------
    DataError
        A name has a control character; the message quotes it.
    """
    names = [name for name, _ in (*module.named_modules(), *module.named_parameters())]
    for name in names:
        if not is_harmless(name):
            raise DataError(
                f"expected layer names without control characters in {source}, found "
                f"{name!r}; rename it"
            )


def _fit_count(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> int:
    return sum(1 for name in weights if name in expected)


def _prefixes(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Candidate prefixes: before the first or last expected key, and common to most given keys."""
    names = list(expected)
    ends = [f".{name}" for name in (names[:1] + names[-1:])]
    found = {key.removesuffix(end) + "." for key in weights for end in ends if key.endswith(end)}
    count_of = {prefix: sum(key.startswith(prefix) for key in weights) for prefix in found}
    return sorted((prefix for prefix in found if 2 * count_of[prefix] > len(weights)), key=len)


def _without_compiled(compiled: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace(compiled, "") if compiled else key: t for key, t in weights.items()}


def _stripped(
    compiled: str, prefix: str, weights: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """The weights under stripped keys, or None if two keys would collide."""
    plain = _without_compiled(compiled, weights)
    stripped = {key.removeprefix(prefix): tensor for key, tensor in plain.items()}
    return stripped if len(stripped) == len(weights) else None


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor is dense and not quantized."""
    return tensor.layout == torch.strided and not tensor.is_quantized
