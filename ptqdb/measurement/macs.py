"""Counts multiply-accumulates for one image, by module and by the weight it reads."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ptqdb.errors import UnsupportedLayerError
from ptqdb.networks.copies import scratch_copy, watch_forward
from ptqdb.networks.eager import eager

# Operations that read a weight of two or more dimensions without MACs: they multiply nothing, or
# once per element as a norm does, which this study does not count. The same holds for torch's
# pointwise operations and views. All others are unknown, never silently 0.
_MOVES = (
    *("_to_copy", "_unsafe_view", "as_strided", "cat", "clone", "constant_pad_nd", "copy_"),
    *("detach", "expand", "flip", "gather", "index", "index_select", "pad", "permute", "repeat"),
    *("reshape", "roll", "select", "slice", "split", "stack", "t", "transpose", "unsqueeze"),
    *("view", "where", "embedding", "embedding_bag", "_embedding_bag"),
    *("_embedding_bag_forward_only", "upsample_nearest2d", "upsample_bilinear2d"),
    *("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
_NORMS = (
    *("layer_norm", "native_layer_norm", "batch_norm", "native_batch_norm", "group_norm"),
    *(
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training",
        "native_group_norm",
        "rms_norm",
    ),
    *("_fused_rms_norm", "linalg_vector_norm", "norm", "max", "mean", "min", "amax", "amin"),
    *("std", "std_mean", "sum", "var", "var_mean"),
)
_WITHOUT_MACS = frozenset(f"aten.{name}" for name in (*_MOVES, *_NORMS))

MACS_OF_ELEMENT = 64
"""MACs that take the time of writing one element to memory, measured on two processors. With this
weight, the time per unit of work of the reference networks, narrow and of full width, agrees within
a factor of 1.6 (by MACs alone 4)."""


@dataclass(frozen=True)
class Work:
    """The work of a network for one image.

    Attributes
    ----------
    macs
        By (module, parameter): the innermost running module, "" for the network, and the parameter
        in the product, "" for products of activations. None if the operation is unknown. A layer
        that runs twice counts twice.
    run, read
        Names of the modules that ran, and of the parameters that were read.
    elements
        Elements of all outputs of operations except views: those written to memory.
    """

    macs: Mapping[tuple[str, str], int | None]
    run: frozenset[str]
    read: frozenset[str]
    elements: int

    @property
    def amount(self) -> float:
        """Estimate of the time: the known MACs, and the elements written."""
        return sum(filter(None, self.macs.values())) + MACS_OF_ELEMENT * self.elements

    def merged(self, other: "Work") -> "Work":
        """Return this work, plus work that occurs only for another image."""
        macs = {**other.macs, **{key: count for key, count in self.macs.items() if count != 0}}
        return Work(macs, self.run | other.run, self.read | other.read, self.elements)

    def of_module(self, name: str) -> int:
        """All known MACs with this module as the innermost."""
        return sum(macs or 0 for (module, _), macs in self.macs.items() if module == name)


def total(counts: Iterator[int | None]) -> int | None:
    """Return the sum; None if a count is unknown."""
    found = list(counts)
    known = [count for count in found if count is not None]
    return sum(known) if len(known) == len(found) else None


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the MACs of every operation, and the parameter it reads."""

    def __init__(self, module: nn.Module):
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = [""]
        self.macs: dict[tuple[str, str], int | None] = {}
        self.run: set[str] = {""}
        self.read: set[str] = set()
        self.elements = 0
        self._names: dict[int, str] = {}
        for name, parameter in module.named_parameters():
            if parameter.numel():
                self._names.setdefault(parameter.untyped_storage().data_ptr(), name)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here, and True would load torch.compile.

        Loading it takes longer than measuring a small network.
        """
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = func._overloadpacket
        if operation not in flop_registry:
            with self:
                result = func.decompose(*args, **kwargs)
                if result is not NotImplemented:
                    return result
        out = func(*args, **kwargs)
        if not func.is_view:
            self.elements += sum(tensor.numel() for tensor in _tensors([out]))
        tensors = [tensor for tensor in _tensors(args) if tensor.numel()]
        named = [(tensor, name) for tensor in tensors if (name := self._name(tensor)) is not None]
        self.read.update(name for _, name in named)
        matrix = next((name for tensor, name in named if tensor.ndim >= 2), "")
        key = self.running[-1], matrix
        if operation in flop_registry:
            flops = flop_registry[operation](*args, **kwargs, out_val=out)
            self.macs[key] = total(iter((self.macs.get(key, 0), flops // 2)))
        elif matrix and not _is_without_macs(func):
            self.macs[key] = None
        return out

    def _name(self, tensor: Tensor) -> str | None:
        try:
            return self._names.get(tensor.untyped_storage().data_ptr())
        except (NotImplementedError, RuntimeError):  # a tensor without storage
            return None


def _is_without_macs(func: Any) -> bool:
    return (
        func.is_view
        or torch.Tag.pointwise in func.tags
        or str(func._overloadpacket) in _WITHOUT_MACS
    )


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def count_work(module: nn.Module, example: Tensor) -> Work:
    """Run a scratch copy of the network once and count its multiplications.

    MACs are half the floating-point operations of ``torch.utils.flop_counter``.

    Parameters
    ----------
    example
        One image as the network takes it, (1, channels, height, width).
    """
    with scratch_copy(module) as scratch:
        counter = _Counter(scratch)
        for name, part in scratch.named_modules():
            if name:
                watch_forward(part, partial(_running, counter, name))
        with eager(), _without_fused_attention(), torch.no_grad(), counter:
            scratch(example.clone())
    return Work(counter.macs, frozenset(counter.run), frozenset(counter.read), counter.elements)


@contextmanager
def _running(counter: _Counter, name: str, _: Any) -> Iterator[Callable[[Any], None]]:
    """Set the running module in the counter."""
    counter.running.append(name)
    counter.run.add(name)
    try:
        yield lambda output: None
    finally:
        counter.running.pop()


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Disable torch's fused attention, whose work cannot be counted."""
    has_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)


def layer_macs(work: Work, names: list[str]) -> dict[str, int]:
    """Return the MACs of each of these layers.

    Raises
    ------
    UnsupportedLayerError
        No operation was counted for a layer; the message names it.
    """
    found = {name: work.of_module(name) for name in names}
    macs = {name: count for name, count in found.items() if count}
    uncounted = [name for name in names if name not in macs]
    if uncounted:
        raise UnsupportedLayerError(
            f"expected multiplications in every layer with weights, counted none in "
            f"{', '.join(uncounted)}: the operation is unknown to the counter, or the layer "
            "never runs"
        )
    return macs
