"""Copies of a network: with plain parameters as weights, or for temporary use."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from ptqdb.errors import DataError


def full_copy(module: nn.Module) -> nn.Module:
    """Return a copy that shares nothing with the network.

    Functions stored in the network that refer to its modules (hooks, closures, compiled methods)
    refer to the modules of the copy.

    Raises
    ------
    DataError
        The network cannot be copied.
    """
    return _copied(module, {})


@contextmanager
def scratch_copy(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a temporary copy that shares only the parameters.

    State changed by a forward pass (counters, caches, buffers) stays in the copy.

    Raises
    ------
    DataError
        The network cannot be copied.
    """
    scratch = sharing_copy(module)
    try:
        yield scratch
    finally:
        # A replaced forward refers back to its module: remove it to free the memory at once.
        for part in scratch.modules():
            vars(part).pop("forward", None)


def sharing_copy(module: nn.Module) -> nn.Module:
    """Return a copy that shares only the parameters.

    Raises
    ------
    DataError
        The network cannot be copied.
    """
    return _copied(module, {id(each): each for each in module.parameters()})


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    rebound = _Rebound(module)
    memo |= _computed_tensor_copies(module) | rebound.memo
    try:
        known = dict(memo)
        copied = copy.deepcopy(module, known)
    except Exception:  # share what cannot be copied (a lock, a file, a generator)
        try:
            known = memo | _uncopyable(module)
            copied = copy.deepcopy(module, known)
        except Exception as error:
            raise DataError(
                f"expected a network that can be copied, found {type(module).__name__}: "
                f"{type(error).__name__}: {error}; give it attributes that copy.deepcopy can copy"
            ) from error
    rebound.bind(known)
    return copied


class _Rebound:
    """Copies of functions that refer to a network's modules, rebound to those of its copy.

    ``copy.deepcopy`` does not copy functions: a hook would write to the original network.

    Attributes
    ----------
    memo
        For deepcopy: the copies by id of the functions; their cells are empty until `bind` fills
        them.
    """

    def __init__(self, module: nn.Module):
        self.memo: dict[int, Any] = {}
        self._cells: list[tuple[CellType, Any]] = []
        self._modules = set(map(id, module.modules()))
        self._compiled: list[tuple[nn.Module, str, Any]] = []
        for part in module.modules():
            for name, value in vars(part).items():
                self._take(part, name, value)

    def _take(self, part: nn.Module, name: str, value: Any) -> None:
        original = getattr(value, "_torchdynamo_orig_callable", None)
        if original is not None:
            self._compiled.append((part, name, original))
        elif isinstance(value, FunctionType):
            self._copy(value)
        elif isinstance(value, dict) and not name.startswith(("_modules", "_parameters")):
            for each in value.values():
                if isinstance(each, FunctionType):
                    self._copy(each)

    def _copy(self, function: FunctionType) -> None:
        cells = function.__closure__ or ()
        if id(function) in self.memo or not any(map(self._refers, cells)):
            return
        new = tuple(CellType() for _ in cells)
        twin = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, new
        )
        twin.__kwdefaults__ = function.__kwdefaults__
        self.memo[id(function)] = twin
        for cell, empty in zip(cells, new, strict=True):
            content = cell.cell_contents
            if isinstance(content, FunctionType):
                self._copy(content)
            self._cells.append((empty, content))

    def _refers(self, cell: CellType) -> bool:
        try:
            content = cell.cell_contents
        except ValueError:  # empty
            return False
        if isinstance(content, FunctionType):
            return any(map(self._refers, content.__closure__ or ()))
        return id(getattr(content, "__self__", content)) in self._modules

    def bind(self, known: dict[int, Any]) -> None:
        """Fill the cells, and replace compiled methods by the original ones.

        Parameters
        ----------
        known
            The memo of deepcopy after copying the network.
        """
        for empty, content in self._cells:
            is_own = id(getattr(content, "__self__", content)) in self._modules
            is_function = id(content) in self.memo
            empty.cell_contents = (
                copy.deepcopy(content, known) if is_own or is_function else content
            )
        for part, name, original in self._compiled:
            vars(known[id(part)])[name] = copy.deepcopy(original, known)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested lists, tuples and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)


def _uncopyable(module: nn.Module) -> dict[int, Any]:
    """For deepcopy's memo: attributes that cannot be copied (shared), and copies of generators."""
    found: dict[int, Any] = {}
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Generator):
                found[id(value)] = value.clone_state()
            elif name not in ("_modules", "_parameters", "_buffers", "forward"):
                try:
                    copy.deepcopy(value)
                except Exception:  # any error of its class
                    found[id(value)] = value
    return found


def watch_forward(
    module: nn.Module, call: Callable[[Any], AbstractContextManager[Callable[[Any], None]]]
) -> None:
    """Run each forward pass of the module inside a context; for scratch copies.

    Unlike a hook it also covers direct calls of ``forward``.

    Parameters
    ----------
    call
        Receives the arguments, (positional, by name); its context returns a function that receives
        the output.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return  # its forward is not Python
    forward = module.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        with call((args, kwargs)) as returned:
            output = forward(*args, **kwargs)
            returned(output)
        return output

    vars(module)["forward"] = watched


def has_computed_weights(module: nn.Module) -> bool:
    """Whether torch recomputes a weight of the network at each forward pass."""
    kinds = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
    return any(
        parametrize.is_parametrized(part)
        or any(isinstance(hook, kinds) for hook in part._forward_pre_hooks.values())
        for part in module.modules()
    )


def settle_computed_weights(module: nn.Module) -> None:
    """Replace weights that are recomputed at each forward pass by plain parameters, in place.

    Covers parametrizations (weight norm, spectral norm, orthogonal, any other), the older weight
    and spectral norm, which are hooks, and pruning masks.
    """
    for part in module.modules():
        _settle_parametrizations(part)
        _settle_hooks(part)


def _computed_tensor_copies(module: nn.Module) -> dict[int, Any]:
    """Copies for deepcopy's memo: it refuses non-leaf tensors that require grad."""
    return {
        id(value): value.detach().clone()
        for part in module.modules()
        for name, attribute in vars(part).items()
        if name not in ("_modules", "_parameters")
        for value in tensors_in(attribute)
        if not value.is_leaf
    }


def _settle_parametrizations(part: nn.Module) -> None:
    if parametrize.is_parametrized(part):
        parametrizations = part.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        # The computed weight is a property of a class created for this layer and shared with the
        # copy: removing it there would remove it from the original, too.
        shared = type(part)
        part.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
        for name in list(parametrizations):
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)


def _settle_hooks(part: nn.Module) -> None:
    for hook in list(part._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(part, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(part, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
