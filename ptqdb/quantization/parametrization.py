"""Turns weights that are computed anew at each pass into plain parameters, in a copy."""

import copy

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm


def with_plain_parameters(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights are parameters; the original is untouched.

    What torch can put between a parameter and its layer is computed once: parametrizations
    (weight norm, spectral norm, orthogonal, any other), the older weight and spectral norm, which
    are hooks, and pruning masks.
    """
    copied = copy.deepcopy(module, _copies_of_computed_tensors(module)).eval()
    for part in copied.modules():
        _settle_parametrizations(part)
        _settle_hooks(part)
    return copied


def _copies_of_computed_tensors(module: nn.Module) -> dict[int, object]:
    """Copies for deepcopy's memo: it refuses tensors that still carry a gradient's history."""
    return {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }


def _settle_parametrizations(part: nn.Module) -> None:
    if parametrize.is_parametrized(part):
        parametrizations = part.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        # The computed weight is a property of a class made for this layer, which its copy shares:
        # taken from that class, the original would lose it too.
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
