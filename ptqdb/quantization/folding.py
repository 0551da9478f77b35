"""Folds batch norm into the layer before it, where the graph proves that this changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ptqdb.quantization.channels import along_output_channels
from ptqdb.quantization.parametrization import with_plain_parameters

_LAYER_OPERATIONS = frozenset(
    {
        "aten.linear",
        "aten.convolution",
        *(f"aten.conv{dimensions}d" for dimensions in (1, 2, 3)),
        *(f"aten.conv_transpose{dimensions}d" for dimensions in (1, 2, 3)),
    }
)
LISTED_COUNT = 3


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
        One sentence on which batch norms stay and why, and on how the others were found where
        torch.fx could not trace the network; or empty.
    """

    module: nn.Module
    folded: tuple[str, ...]
    unfolded: tuple[str, ...]
    statement: str


def fold_batch_norm(module: nn.Module, example: Tensor) -> FoldedNetwork:
    """Fold each batch norm whose only input is a convolution or linear layer used once.

    ``y = gamma * (w x + b - mean) / sqrt(var + eps) + beta`` becomes one layer with weights
    ``w * gamma / sqrt(var + eps)``, computed in float64 (Jacob et al., 2018, section 3.2).
    Which layer feeds which is read off the graph that torch.fx traces. Where it cannot, the order
    of execution that torch.export records serves, for a batch of any size; a network whose way
    depends on the values of its input has neither, and keeps its batch norms.

    Parameters
    ----------
    module
        Any float network; it is not modified.
    example
        One normalized image, (1, channels, height, width).
    """
    copied = with_plain_parameters(module)
    names = [name for name, part in copied.named_modules() if isinstance(part, _BatchNorm)]
    if not names:
        return FoldedNetwork(copied, (), (), "")
    pairs, remark = _proven_pairs(copied, names, example)
    for layer_name, norm_name in pairs:
        norm = copied.get_submodule(norm_name)
        rest = _without_normalization(norm)
        assert rest is not None
        _fold(copied.get_submodule(layer_name), norm)
        _replace(copied, norm_name, rest)
    folded = tuple(norm_name for _, norm_name in pairs)
    unfolded = tuple(name for name in names if name not in folded)
    listed = ", ".join(unfolded[:LISTED_COUNT])
    more = len(unfolded) - LISTED_COUNT
    stays = f"batch norm stays in float: {listed}{f' and {more} more' if more > 0 else ''}"
    stays = stays if unfolded else ""
    return FoldedNetwork(copied, folded, unfolded, "; ".join(filter(None, (stays, remark))))


def _proven_pairs(
    module: nn.Module, names: list[str], example: Tensor
) -> tuple[list[tuple[str, str]], str]:
    """(layer, batch norm) names, and a remark where torch.fx could not trace the network."""
    pairs: list[tuple[str, str]] = []
    untraceable = ""
    try:
        graph = fx.symbolic_trace(module).graph
    except Exception as error:  # whatever the network's own code raises on symbolic values
        untraceable = f"torch.fx cannot trace the network ({_first_line(error)})"
    else:
        pairs = _traced_pairs(module, graph, example)
        found = {norm for _, norm in pairs}
        if not _hides_more(module, graph, [name for name in names if name not in found]):
            return pairs, ""
    try:
        # Sizes 0 and 1 are special to torch.export: it decides a branch on them without a word.
        # A pair holds where a batch of any size from 2 on and a single image both show it.
        many = _exported_pairs(module, torch.cat([example, example]), any_batch_size=True)
        one = _exported_pairs(module, example, any_batch_size=False)
    except Exception as error:  # likewise, and what torch.export refuses
        reason = f"{untraceable}, nor can torch.export ({_first_line(error)})"
        return pairs, reason if untraceable else ""
    more = [pair for pair in many if pair in one and pair not in pairs]
    if more and untraceable:
        untraceable = f"folded by the order of execution of torch.export, as {untraceable}"
    return pairs + more, untraceable


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _traced_pairs(module: nn.Module, graph: fx.Graph, example: Tensor) -> list[tuple[str, str]]:
    """Each called once, the layer's output read by nothing else, no weight read past them."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    read = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    candidates = []
    for node in graph.nodes:
        if node.op != "call_module" or not node.args:
            continue
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        pair = str(source.target), str(node.target)
        if any(calls[name] > 1 or _is_read(name, read) for name in pair):
            continue
        if _may_fold(module.get_submodule(pair[0]), module.get_submodule(pair[1])):
            candidates.append(pair)
    ranks = _input_ranks(module, [norm for _, norm in candidates], example)
    return [
        (layer, norm)
        for layer, norm in candidates
        if ranks.get(norm) == _output_rank(module.get_submodule(layer))
    ]


def _hides_more(module: nn.Module, graph: fx.Graph, unfolded: list[str]) -> bool:
    """Whether torch.fx looked into layers or norms that are not torch's own, and lost sight."""
    own = {name for name in unfolded if type(module.get_submodule(name)).__module__[:5] != "torch"}
    fed = {
        str(node.target)
        for node in graph.nodes
        if node.op == "call_module"
        and any(
            getattr(source.target, "__name__", "").startswith(("conv", "linear"))
            for source in node.all_input_nodes
            if source.op == "call_function"
        )
    }
    return bool(own or fed.intersection(unfolded))


def _is_read(name: str, attributes: Iterable[str]) -> bool:
    return any(attribute.startswith(f"{name}.") for attribute in attributes)


def _may_fold(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether these are such a pair at all: hooks could do anything between them."""
    return (
        isinstance(layer, _ConvNd | nn.Linear)
        and isinstance(norm, _BatchNorm)
        and norm.running_mean is not None
        and not any(part._forward_hooks or part._forward_pre_hooks for part in (layer, norm))
        and "forward" not in vars(layer) | vars(norm)
    )


def _output_rank(layer: nn.Module) -> int:
    """Dimensions of the layer's output at which its channels are the norm's: dimension 1."""
    assert isinstance(layer, _ConvNd | nn.Linear)
    return layer.weight.ndim


def _input_ranks(module: nn.Module, names: list[str], example: Tensor) -> dict[str, int]:
    """How many dimensions the input of each batch norm has; empty where the network fails."""
    ranks: dict[str, int] = {}

    def observer(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: ranks.update({name: inputs[0].ndim})

    handles = [
        module.get_submodule(name).register_forward_pre_hook(observer(name)) for name in names
    ]
    try:
        with torch.inference_mode():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return ranks


def _exported_pairs(
    module: nn.Module, batch: Tensor, *, any_batch_size: bool
) -> list[tuple[str, str]]:
    """Pairs of the graph of operations: every parameter read once, by these two alone."""
    dynamic = ({0: torch.export.Dim("batch", min=2)},) if any_batch_size else None
    with torch.no_grad():
        program = torch.export.export(module, (batch,), dynamic_shapes=dynamic)
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    pairs = []
    for node in program.graph.nodes:
        if not _operation(node).startswith("aten.batch_norm") or node.args[5]:
            continue
        source, norm_tensors = node.args[0], node.args[1:5]
        if _operation(source) not in _LAYER_OPERATIONS or len(source.users) > 1:
            continue
        pair = _owner(source.args[1:3], names), _owner(norm_tensors, names)
        if pair[0] is None or pair[1] is None:
            continue
        layer, norm = module.get_submodule(pair[0]), module.get_submodule(pair[1])
        if not _may_fold(layer, norm) or _without_normalization(norm) is None:
            continue
        if source.meta["val"].ndim == _output_rank(layer):
            pairs.append((pair[0], pair[1]))
    return pairs


def _operation(node: fx.Node) -> str:
    """The operation's name without its overload, such as ``aten.conv2d``."""
    return str(node.target).rsplit(".", 1)[0] if node.op == "call_function" else ""


def _owner(tensors: Iterable[fx.Node | None], names: dict[str, str]) -> str | None:
    """The module that holds all of these tensors, each read once; None where there is none."""
    owners = set()
    for tensor in tensors:
        if tensor is None:
            continue
        if not isinstance(tensor, fx.Node) or tensor.name not in names or len(tensor.users) > 1:
            return None
        owners.add(names[tensor.name].rpartition(".")[0])
    return owners.pop() if len(owners) == 1 else None


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    """Put the part in the place of a module, under each of its names."""
    replaced = module.get_submodule(name)
    for other, found in list(module.named_modules(remove_duplicate=False)):
        if found is replaced:
            module.set_submodule(other, part)


def _without_normalization(norm: nn.Module) -> nn.Module | None:
    """What remains of a batch norm that is folded: nothing, or what its subclass does after it.

    timm's ``BatchNormAct2d`` also holds the activation. Of a subclass with its own forward, the
    children in their order have to be all the rest, to the bit; else None.
    """
    if type(norm).forward is _BatchNorm.forward:
        return nn.Identity()
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    rest = nn.Sequential(*norm.children())
    rank = 3 if isinstance(norm, nn.BatchNorm1d) else 5 if isinstance(norm, nn.BatchNorm3d) else 4
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(3, norm.num_features, *[5] * (rank - 2), generator=generator)
    probe = probe.to(norm.running_mean) * 3
    with torch.inference_mode():
        try:
            is_all = torch.equal(norm(probe.clone()), rest(_BatchNorm.forward(norm, probe)))
        except Exception:  # of the subclass's own code
            return None
    return rest if is_all else None


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Replace the layer's weight and bias by the folded ones."""
    assert isinstance(layer, _ConvNd | nn.Linear)
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    dtype = layer.weight.dtype
    with torch.no_grad():
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
        beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
        bias = torch.zeros_like(mean) if layer.bias is None else layer.bias.double()
        inverse = torch.rsqrt(variance + norm.eps)
        weight = along_output_channels(layer, gamma * inverse) * layer.weight.double()
        bias = (bias - mean) * inverse * gamma + beta
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
