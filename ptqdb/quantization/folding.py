"""Folds batch norm into the preceding layer, where a trace shows nothing in between."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ptqdb.quantization.channels import along_output_channels
from ptqdb.quantization.tracing import Trace

_MULTIPLICATIONS = frozenset(
    {
        *("convolution", "_convolution", "linear", "addmm", "mm"),
        *(f"conv{dimensions}d" for dimensions in (1, 2, 3)),
        *(f"conv_transpose{dimensions}d" for dimensions in (1, 2)),
        "conv_transpose3d",
    }
)
LISTED_COUNT = 3
EPS = 1e-5
"""Default eps of torch's batch norms, for norms without the attribute."""


@dataclass(frozen=True)
class Affine:
    """A batch norm per channel: ``gamma * (x - mean) / sqrt(variance + eps) + beta``.

    Attributes
    ----------
    mean, inverse, gamma, beta
        float64, (channels,); ``inverse`` is ``1 / sqrt(variance + eps)``.
    """

    mean: Tensor
    inverse: Tensor
    gamma: Tensor
    beta: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to float64 of shape (N, channels, ...)."""
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean, factor, beta = (
            part.reshape(shape) for part in (self.mean, self.inverse * self.gamma, self.beta)
        )
        return (x - mean) * factor + beta


@dataclass(frozen=True)
class Folding:
    """Which batch norms of a network were folded.

    Attributes
    ----------
    folded, unfolded
        Names of those folded into a layer, and of those that stay in float.
    """

    folded: tuple[str, ...] = ()
    unfolded: tuple[str, ...] = ()

    @property
    def statement(self) -> str:
        """Sentence on the batch norms that stay in float, or an empty string."""
        if not self.unfolded:
            return ""
        more = len(self.unfolded) - LISTED_COUNT
        listed = ", ".join(self.unfolded[:LISTED_COUNT])
        return f"batch norm stays in float: {listed}{f' and {more} more' if more > 0 else ''}"


@dataclass(frozen=True)
class Fold:
    """The names of a batch norm and of the layer it is folded into."""

    layer: str
    norm: str

    def apply(self, module: nn.Module) -> None:
        """Set the folded weight and bias in the layer, and make the norm the identity.

        ``y = gamma * (w x + b - mean) / sqrt(var + eps) + beta`` becomes one layer with weights ``w
        * gamma / sqrt(var + eps)``, computed in float64 (Jacob et al., 2018, section 3.2). The norm
        keeps its class and place in the network; its submodules, such as an activation, still run.
        """
        layer, norm = module.get_submodule(self.layer), module.get_submodule(self.norm)
        assert isinstance(layer, _ConvNd | nn.Linear)
        affine = _affine(norm, layer.weight.ndim)
        assert affine is not None
        dtype = layer.weight.dtype
        with torch.no_grad():
            bias = torch.zeros_like(affine.mean) if layer.bias is None else layer.bias.double()
            factor = along_output_channels(layer, affine.gamma * affine.inverse)
            weight = factor * layer.weight.double()
            bias = (bias - affine.mean) * affine.inverse * affine.gamma + affine.beta
        layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
        vars(norm)["forward"] = MethodType(_run_children, norm)


def _run_children(norm: nn.Module, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """The forward of a folded norm."""
    for child in norm.children():
        x = child(x)
    return x


def batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Return the batch norms by name: torch's, and other modules with running statistics."""
    return {name: part for name, part in module.named_modules() if _has_statistics(part)}


def _has_statistics(part: nn.Module) -> bool:
    if isinstance(part, _BatchNorm):
        return True
    found = [getattr(part, name, None) for name in ("running_mean", "running_var")]
    return all(isinstance(each, Tensor) and each.ndim == 1 for each in found)


def find_folds(module: nn.Module, traces: Sequence[Trace]) -> tuple[Fold, ...]:
    """Find each batch norm whose only input is the output of a layer that is used once.

    The layer is a convolution or linear layer. Nothing else reads its output, its parameters or
    those of the norm. This must hold in every trace, and no trace may depend on values of the
    images.
    """
    norms = batch_norms(module)
    if not norms or any(trace.depends_on_values for trace in traces):
        return ()
    first, *others = [_pairs(module, norms, trace) for trace in traces]
    return tuple(
        Fold(layer, norm)
        for norm, layer in first.items()
        if all(found.get(norm) == layer for found in others)
    )


def _pairs(module: nn.Module, norms: Mapping[str, nn.Module], trace: Trace) -> dict[str, str]:
    """The layer before each norm in one trace, by the norm."""
    makers = {
        id(call.output): name
        for name, calls in trace.calls.items()
        for call in calls
        if call.output is not None and name not in norms
    }
    found = {}
    for norm in norms:
        calls = trace.calls.get(norm, [])
        layer = makers.get(id(calls[0].input)) if len(calls) == 1 else None
        if layer is None or len(trace.calls[layer]) > 1:
            continue
        if _is_pair(module, layer, norm, trace):
            found[norm] = layer
    return found


def _is_pair(module: nn.Module, name: str, norm_name: str, trace: Trace) -> bool:
    layer, norm = module.get_submodule(name), module.get_submodule(norm_name)
    call = trace.calls[name][0]
    if not isinstance(layer, _ConvNd | nn.Linear) or call.output is None:
        return False
    if any(
        part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
        for part in (layer, norm)
    ):
        return False
    # Dimension 1 of the output is the channel dimension, also of the norm.
    if call.output.ndim != layer.weight.ndim:
        return False
    operation, made_of = trace.producers.get(id(call.output), ("", []))
    read_inside = {read.inside for read in trace.reads.get(id(call.output), ())}
    return (
        operation in _MULTIPLICATIONS
        and any(_is_weight(tensor, layer.weight, trace) for tensor in made_of)
        and read_inside == {norm_name}
        and _is_read_inside(name, trace)
        and _is_read_inside(norm_name, trace)
        and _affine(norm, call.output.ndim) is not None
    )


def _is_weight(tensor: Tensor, weight: Tensor, trace: Trace) -> bool:
    """Whether this is the weight, or its cast by autocast."""
    operation, made_of = trace.producers.get(id(tensor), ("", []))
    sources = [tensor, *(made_of if operation in ("_to_copy", "to") else [])]
    return any(
        each.data_ptr() == weight.data_ptr() and each.numel() == weight.numel() for each in sources
    )


def _is_read_inside(name: str, trace: Trace) -> bool:
    """Whether the module's own parameters and buffers are read only while it runs."""
    return all(read.inside == name for own in trace.own[name] for read in trace.reads.get(own, ()))


def _affine(norm: nn.Module, rank: int) -> Affine | None:
    """The affine map of a norm before its children run; None if it computes anything else.

    Taken from its attributes and verified on seeded noise, since a subclass may do more. Without an
    ``eps`` attribute, the map is determined from the outputs for zeros and ones.

    Parameters
    ----------
    rank
        Dimensions of its input.
    """
    mean, variance = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor) or norm.training:
        return None
    if isinstance(norm, _BatchNorm) and type(norm).forward is _BatchNorm.forward:
        return _stated(norm)
    exact = copy.deepcopy(norm).double()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, len(mean), *[5] * (rank - 2), generator=generator, dtype=torch.float64)
    noise = (noise * 3).to(mean.device)
    for read in (_stated, _asked):
        try:
            with torch.inference_mode():
                affine = read(exact, rank)
                expected = _run_children(exact, affine(noise))
                found = exact(noise.clone())
        except Exception:  # raised by the norm's own code
            continue
        largest = float(expected.abs().max())
        if isinstance(found, Tensor) and torch.allclose(found, expected, 1e-9, 1e-9 * largest):
            return affine
    return None


def _stated(norm: nn.Module, _: int = 0) -> Affine:
    mean, variance = norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    gamma, beta = getattr(norm, "weight", None), getattr(norm, "bias", None)
    with torch.no_grad():
        mean = mean.double()
        inverse = torch.rsqrt(variance.double() + float(getattr(norm, "eps", EPS)))
        return Affine(
            mean,
            inverse,
            gamma.double() if isinstance(gamma, Tensor) else torch.ones_like(mean),
            beta.double() if isinstance(beta, Tensor) else torch.zeros_like(mean),
        )


def _asked(norm: nn.Module, rank: int) -> Affine:
    mean = norm.running_mean
    assert isinstance(mean, Tensor)
    zeros = torch.zeros(1, len(mean), *[2] * (rank - 2), dtype=torch.float64, device=mean.device)
    beta, total = (norm(values)[0].flatten(1)[:, 0] for values in (zeros, zeros + 1))
    zero, one = torch.zeros_like(beta), torch.ones_like(beta)
    return Affine(zero, one, total - beta, beta)
