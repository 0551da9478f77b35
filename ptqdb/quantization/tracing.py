"""Traces one forward pass: which layers run, what they read, and what reads their outputs.

The pass is a real one. Symbolic tracing has no tensors or numbers and may take another path through
the network's code than a real image.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ptqdb.networks.copies import scratch_copy, tensors_in, watch_forward
from ptqdb.networks.eager import eager

_READS_VALUES = frozenset(
    {
        *("_local_scalar_dense", "equal", "is_nonzero", "allclose", "nonzero", "nonzero_numpy"),
        *("masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive"),
    }
)
"""Operations that pass values of a tensor to Python or to a shape: the code may branch on them."""


@dataclass(frozen=True)
class Read:
    """One operation that reads a tensor.

    Attributes
    ----------
    inside
        Name of the innermost watched module that is running; "" if none.
    """

    inside: str
    operation: str


@dataclass(frozen=True)
class Call:
    """One call of a watched module.

    Attributes
    ----------
    input_key
        Id, storage and version of the first tensor argument: overwriting a tensor in place changes
        its version. None without a tensor.
    input, output
        The tensors themselves; None if there is none.
    """

    input_key: tuple[int, int, int] | None
    input: Tensor | None
    output: Tensor | None


@dataclass
class Trace:
    """The record of one pass.

    Attributes
    ----------
    own
        By module, the ids of its own parameters and buffers.
    calls
        By module, in the order of the first call.
    reads
        By id of a tensor, the operations that read it.
    producers
        By id of a tensor, the operation that produced it and the tensors it read.
    depends_on_values
        Whether values computed from the images were passed to Python: the control flow may depend
        on them.
    nested
        Pairs of watched modules; the second runs inside the first.
    foreign
        Parameters that were read but do not belong to the network.
    """

    own: dict[str, list[int]] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    reads: dict[int, list[Read]] = field(default_factory=dict)
    producers: dict[int, tuple[str, list[Tensor]]] = field(default_factory=dict)
    depends_on_values: bool = False
    nested: set[tuple[str, str]] = field(default_factory=set)
    foreign: list[nn.Parameter] = field(default_factory=list)


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operation on tensors."""

    def __init__(self, module: nn.Module, images: Tensor):
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.running = [""]
        # Keep the tensors, so that their ids stay unique during the pass.
        self.kept: list[Tensor] = [images]
        self.from_images = {id(images)}
        self.writes: Counter[int] = Counter()
        self._own = set(map(id, module.parameters()))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: see ``ptqdb.measurement.macs``."""
        return False

    def key(self, tensor: Tensor) -> tuple[int, int, int]:
        """Current id, storage and version of a tensor."""
        storage = _storage(tensor)
        return id(tensor), storage, self.writes[storage]

    def written(self, values: Any) -> None:
        """Record writes to tensors."""
        self.writes.update(map(_storage, tensors_in(values)))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        read = list(tensors_in((args, tuple(kwargs.values()))))
        out = func(*args, **kwargs)
        operation = func._overloadpacket.__name__
        made = list(tensors_in(out))
        self.kept += read + made
        for tensor in read:
            entry = Read(self.running[-1], operation)
            self.trace.reads.setdefault(id(tensor), []).append(entry)
            if isinstance(tensor, nn.Parameter) and id(tensor) not in self._own:
                self.trace.foreign.append(tensor)
        from_images = [tensor for tensor in read if id(tensor) in self.from_images]
        if from_images:
            by_mask = operation == "index" and any(x.dtype == torch.bool for x in from_images)
            self.trace.depends_on_values |= by_mask or operation in _READS_VALUES
            self.from_images.update(map(id, made))
        for argument, value in _arguments(func, args, kwargs):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.written(value)
        for tensor in made:
            self.trace.producers.setdefault(id(tensor), (operation, read))
        return out


class _ValueReader(TorchFunctionMode):
    """Records what is not an operation: conversion of values to NumPy or lists."""

    def __init__(self, watcher: _Watcher):
        super().__init__()
        self._watcher = watcher

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("tolist", "numpy", "__array__"):
            taken = any(id(tensor) in self._watcher.from_images for tensor in tensors_in(args))
            self._watcher.trace.depends_on_values |= taken
        if name in ("numpy", "__array__", "__set__"):  # NumPy shares the memory and may write to it
            self._watcher.written(args)
        return func(*args, **(kwargs or {}))


def _arguments(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    """Pair an operation's arguments in its schema with the given values."""
    for place, argument in enumerate(func._schema.arguments):
        if place < len(args):
            yield argument, args[place]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name]


def _storage(tensor: Tensor) -> int:
    """Return an id shared by all views of one storage; 0 for a tensor without storage."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return 0


def watch(module: nn.Module, images: Tensor, watched: Iterable[str]) -> Trace:
    """Run a scratch copy of the network once and trace some of its modules.

    Parameters
    ----------
    images
        Normalized, (N, channels, height, width).
    watched
        Names of the modules to trace.
    """
    images = images.clone()
    with scratch_copy(module) as scratch:
        watcher = _Watcher(scratch, images)
        for name in watched:
            part = scratch.get_submodule(name)
            own = (*part.parameters(recurse=False), *part.buffers(recurse=False))
            watcher.trace.own[name] = list(map(id, own))
            watch_forward(part, partial(_called, watcher, name))
        with eager(), torch.no_grad(), _ValueReader(watcher), watcher:
            scratch(images)
    return watcher.trace


@contextmanager
def _called(watcher: _Watcher, name: str, arguments: Any) -> Iterator[Callable[[Any], None]]:
    """Record one call of a watched module: its input and output."""
    given = next(tensors_in(arguments), None)
    key = None if given is None else watcher.key(given)
    watcher.trace.calls.setdefault(name, [])  # in the order of entry

    def returned(output: Any) -> None:
        found = output if isinstance(output, Tensor) else None
        watcher.kept += [each for each in (given, found) if each is not None]
        watcher.trace.calls[name].append(Call(key, given, found))

    watcher.trace.nested.update((outer, name) for outer in watcher.running)
    watcher.running.append(name)
    try:
        yield returned
    finally:
        watcher.running.pop()
