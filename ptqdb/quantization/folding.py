"""Folds batch norm into the layer before it, where the graph proves that this changes nothing."""

import copy
from collections import Counter
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights


@dataclass(frozen=True)
class FoldedNetwork:
    """A float network without the batch norms that could be folded.

    Attributes
    ----------
    module
        A copy in evaluation mode; the original is untouched.
    folded, unfolded
        Names of the batch norms that are gone, and of those that stay in float.
    statement
        One sentence on why batch norms stay, or empty.
    """

    module: nn.Module
    folded: tuple[str, ...]
    unfolded: tuple[str, ...]
    statement: str


def fold_batch_norm(module: nn.Module) -> FoldedNetwork:
    """Fold each batch norm whose only input is a convolution or linear layer used once.

    ``y = gamma * (w x + b - mean) / sqrt(var + eps) + beta`` becomes one layer with weights
    ``w * gamma / sqrt(var + eps)``, computed in float64 (Jacob et al., 2018, section 3.2).
    Which layer feeds which is read off the graph that torch.fx traces; a network that it cannot
    trace keeps its batch norms.

    Parameters
    ----------
    module
        Any float network; it is not modified.
    """
    copied = copy.deepcopy(module).eval()
    names = [name for name, part in copied.named_modules() if isinstance(part, _BatchNorm)]
    if not names:
        return FoldedNetwork(copied, (), (), "")
    try:
        graph = fx.symbolic_trace(copied).graph
    except Exception as error:  # whatever the network's own code raises on symbolic values
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        statement = f"batch norm stays in float: torch.fx cannot trace the network ({reason})"
        return FoldedNetwork(copied, (), tuple(names), statement)
    folded = []
    for layer_name, norm_name in _foldable_pairs(copied, graph):
        _fold(copied.get_submodule(layer_name), copied.get_submodule(norm_name))
        copied.set_submodule(norm_name, nn.Identity())
        folded.append(norm_name)
    unfolded = tuple(name for name in names if name not in folded)
    statement = f"batch norm stays in float: {', '.join(unfolded)}" if unfolded else ""
    return FoldedNetwork(copied, tuple(folded), unfolded, statement)


def _foldable_pairs(module: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    """(layer, batch norm) names: each called once, and the layer's output read by nothing else."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or calls[str(node.target)] > 1:
            continue
        norm = module.get_submodule(str(node.target))
        if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
            continue
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        layer = module.get_submodule(str(source.target))
        if calls[str(source.target)] > 1 or len(source.users) > 1:
            continue
        if isinstance(layer, _ConvNd) or _is_flat_linear(layer, norm):
            pairs.append((str(source.target), str(node.target)))
    return pairs


def _is_flat_linear(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether the norm's channels are the linear layer's outputs."""
    return isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Replace the layer's weight and bias by the folded ones."""
    assert isinstance(layer, _ConvNd | nn.Linear)
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    dtype = layer.weight.dtype
    with torch.no_grad():
        weight = layer.weight.double()
        bias = None if layer.bias is None else layer.bias.double()
        gamma = None if norm.weight is None else norm.weight.double()
        beta = None if norm.bias is None else norm.bias.double()
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        if isinstance(layer, nn.Linear):
            weight, bias = fuse_linear_bn_weights(
                weight, bias, mean, variance, norm.eps, gamma, beta
            )
        else:
            weight, bias = fuse_conv_bn_weights(
                weight,
                bias,
                mean,
                variance,
                norm.eps,
                gamma,
                beta,
                transpose=isinstance(layer, _ConvTransposeNd),
            )
    layer.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=False)
