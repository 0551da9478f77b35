"""The quantized twin of a convolution or linear layer, computing in codes."""

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ptqdb.number_formats import NumberFormat, bias_format
from ptqdb.quantization.rounding import scaled_codes
from ptqdb.quantization.schemes import Scheme, scale_of

QUANTIZED_KINDS = (_ConvNd, nn.Linear)
_TORCH_FORWARDS = frozenset(
    kind.forward
    for kind in (
        nn.Linear,
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
    )
)
SCOPES = ("all", "weight", "bias", "input")
_TORCH_CONV_FORWARDS = frozenset(
    {None, *(kind._conv_forward for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d))}
)


@dataclass(frozen=True)
class CodedTensor:
    """A tensor in units of its scale.

    Attributes
    ----------
    codes
        Of the tensor's shape; float32 for weights, float64 for biases.
    scale
        float32 (weights) or float64 (biases), shape () or broadcastable to ``codes``.
    """

    codes: Tensor
    scale: Tensor


@dataclass(frozen=True)
class CodedLayer:
    """The codes of one layer in one format.

    Attributes
    ----------
    input_scale
        float32, shape ().
    bias
        None where the layer has none.
    """

    number_format: NumberFormat
    input_scale: Tensor
    weight: CodedTensor
    bias: CodedTensor | None


def code_weight(weight: Tensor, number_format: NumberFormat, scheme: Scheme) -> CodedTensor:
    """Codes of a float32 weight: ``round(weight / scale)``, a true float32 division."""
    scale = scale_of(scheme.weight_max_abs(weight), number_format)
    return CodedTensor(scaled_codes(weight, scale, number_format), scale)


def code_bias(bias: Tensor, scale: Tensor, number_format: NumberFormat) -> CodedTensor:
    """Codes of a bias in the format that its family keeps for biases, in float64, saturating.

    Parameters
    ----------
    bias
        float32, (out_channels,).
    scale
        float64, the scale of the input times that of the weight.
    number_format
        The format of weights and inputs; its family decides the bias's.
    """
    codes = scaled_codes(bias.double(), scale, bias_format(number_format.family))
    return CodedTensor(codes, scale)


class QuantizedLayer(nn.Module):
    """Stands in for a float layer and computes with floats or codes, as it is told.

    Parameters
    ----------
    layer
        The float layer; its parameters are read and never written.
    name
        Its qualified name in the network.

    Attributes
    ----------
    observe
        Is shown the layer's name and input before each pass, where it is set.
    first_reader
        The layer that reads the same input before this one does, if there is one: its codes
        are used again. ``is_read_on`` is set in that layer.
    """

    def __init__(self, layer: nn.Module, name: str):
        super().__init__()
        self.layer = layer
        self.name = name
        self.observe: Callable[[str, Tensor], None] | None = None
        self.first_reader: QuantizedLayer | None = None
        self.is_read_on = False
        self._kept: tuple[Tensor, Tensor] | None = None
        self._twin: nn.Module = layer
        self._input_scale: Tensor | None = None
        self._output_scales: tuple[Tensor, ...] = ()
        self._number_format: NumberFormat | None = None

    @property
    def weight(self) -> Tensor:
        """The float weight."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight.detach()

    @property
    def bias(self) -> Tensor | None:
        """The float bias, if there is one."""
        bias = self.layer.bias
        return bias.detach() if isinstance(bias, Tensor) else None

    @property
    def param_count(self) -> int:
        """Elements of weight and bias."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    @property
    def kind(self) -> str:
        """The class of the float layer, such as ``Conv2d``."""
        return type(self.layer).__name__

    @property
    def has_torch_forward(self) -> bool:
        """Whether the layer computes as torch's own class of its kind does."""
        layer = self.layer
        return (
            type(layer).forward in _TORCH_FORWARDS
            and getattr(type(layer), "_conv_forward", None) in _TORCH_CONV_FORWARDS
            and "forward" not in vars(layer)
            and not layer._forward_hooks
            and not layer._forward_pre_hooks
        )

    def __getattr__(self, name: str) -> Any:
        """What the network's code asks of the layer, such as ``out_channels``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer":
                raise
            return getattr(self.layer, name)

    def code(self, max_abs: Tensor, number_format: NumberFormat, scheme: Scheme) -> CodedLayer:
        """Codes of weight and bias in a format.

        Parameters
        ----------
        max_abs
            float32, shape (): the range of the layer's input over the calibration images.
        """
        input_scale = scale_of(max_abs, number_format)
        weight = code_weight(self.weight, number_format, scheme)
        bias = None
        if self.bias is not None:
            bias_scale = input_scale.double() * weight.scale.double().reshape(-1)
            bias = code_bias(self.bias, bias_scale.squeeze(), number_format)
        return CodedLayer(number_format, input_scale, weight, bias)

    def use_float(self) -> None:
        """Compute with the float weights and inputs."""
        self._twin = self.layer
        self._input_scale = self._number_format = self._kept = None
        self._output_scales = ()

    def use_codes(self, coded: CodedLayer, scope: str = "all") -> None:
        """Compute with codes of what the scope names: ``all``, ``weight``, ``bias`` or ``input``.

        The sum runs over codes and is scaled once; a float bias is brought to that scale.
        """
        self._kept = None
        codes_input, codes_weight = scope in ("all", "input"), scope in ("all", "weight")
        one = torch.ones_like(coded.input_scale)
        weight_scale = coded.weight.scale if codes_weight else one
        input_scale = coded.input_scale if codes_input else one
        self._input_scale = coded.input_scale if codes_input else None
        self._number_format = coded.number_format
        self._output_scales = () if scope == "bias" else _factors(input_scale, weight_scale)
        bias = self.bias
        if coded.bias is not None and bias is not None:
            if scope == "all":
                bias = coded.bias.codes.float()
            elif scope == "bias":
                bias = (coded.bias.codes * coded.bias.scale).float()
            else:
                largest = torch.finfo(torch.float32).max  # a tiny scale would make it infinite
                output_scale = input_scale.double() * weight_scale.double().reshape(-1)
                bias = (bias.double() / output_scale).clamp_(-largest, largest).float()
        weight = coded.weight.codes if codes_weight else self.weight
        self._twin = _with_parameters(self.layer, weight, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """The float layer's shapes, whatever it computes with."""
        if self.observe is not None:
            self.observe(self.name, inputs)
        outputs: Tensor = self._twin(self._codes_of(inputs))
        for scale in self._output_scales:
            outputs = outputs.mul_(self._along_channels(scale))
        return outputs

    def computes_in_scaled_units(self, inputs: Tensor) -> bool:
        """Whether scaling weight and bias, or input and bias, scales the outputs alike.

        That is what computing in codes rests on. The classes of torch do; a subclass with a
        forward of its own is tried with powers of two, which float32 multiplies by exactly.
        """
        if self.has_torch_forward:
            return True
        bias = None if self.bias is None else self.bias * 4
        with torch.inference_mode():
            expected = self.layer(inputs) * 4
            by_weight = _with_parameters(self.layer, self.weight * 4, bias)(inputs)
            by_input = _with_parameters(self.layer, self.weight, bias)(inputs * 4)
        return torch.equal(by_weight, expected) and torch.equal(by_input, expected)

    def _codes_of(self, inputs: Tensor) -> Tensor:
        """The input in codes, or as it is; a tensor that several layers read is coded once."""
        if self._input_scale is None or self._number_format is None:
            return inputs
        kept = None if self.first_reader is None else self.first_reader._kept
        if kept is not None and kept[0] is inputs:
            return kept[1]
        codes = scaled_codes(inputs, self._input_scale, self._number_format, keep_nan=True)
        if self.is_read_on:
            self._kept = (inputs, codes)
        return codes

    def _along_channels(self, scale: Tensor) -> Tensor:
        """A scale per output channel, shaped to the outputs; a single one stays as it is."""
        if scale.ndim == 0 or isinstance(self.layer, nn.Linear):
            return scale.reshape(-1) if scale.ndim else scale
        return scale.reshape(-1, *[1] * (self.weight.ndim - 2))


def _factors(input_scale: Tensor, weight_scale: Tensor) -> tuple[Tensor, ...]:
    """What outputs are multiplied by: the product of both scales, or one after the other.

    A product that float32 cannot hold would make 0 times infinity, a NaN, of an output of 0.
    """
    product, limits = input_scale * weight_scale, torch.finfo(torch.float32)
    if bool(((product >= limits.tiny) & (product <= limits.max)).all()):
        return (product,)
    return (input_scale, weight_scale)


def _with_parameters(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A shallow copy of the layer that computes with other parameters."""
    twin = copy.copy(layer)
    twin._parameters = {
        **layer._parameters,
        "weight": nn.Parameter(weight, requires_grad=False),
        "bias": None if bias is None else nn.Parameter(bias, requires_grad=False),
    }
    return twin


def use_quantized_layers(module: nn.Module) -> dict[str, QuantizedLayer]:
    """Put a ``QuantizedLayer`` in the place of every convolution and linear layer, in place.

    A layer that stands in several places gets one twin, under the first of its names. A weight
    that is no parameter, but computed anew at each pass, cannot be held in codes, and one without
    elements has nothing to quantize: such a layer stays as it is.
    """
    twins: dict[int, QuantizedLayer] = {}
    for name, layer in list(module.named_modules(remove_duplicate=False)):
        if (
            name
            and isinstance(layer, QUANTIZED_KINDS)
            and (weight := layer._parameters.get("weight")) is not None
            and weight.numel()
        ):
            twin = twins.setdefault(id(layer), QuantizedLayer(layer, name))
            module.set_submodule(name, twin)
    return {twin.name: twin for twin in twins.values()}


def use_float_layers(module: nn.Module, names: Collection[str]) -> None:
    """Put the float layers back in the place of some quantized ones, in place."""
    for place, layer in list(module.named_modules(remove_duplicate=False)):
        if isinstance(layer, QuantizedLayer) and layer.name in names:
            module.set_submodule(place, layer.layer)
