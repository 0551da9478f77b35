"""Convolutions and linear layers that compute with floats or in codes."""

import copy
import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ptqdb.quantization.codes import CodedLayer, code_bias, code_weight
from ptqdb.quantization.number_formats import NumberFormat
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
_STARTS = itertools.count(1)
_TORCH_CONV_FORWARDS = frozenset(
    {None, *(kind._conv_forward for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d))}
)


@dataclass(frozen=True)
class _Codes:
    """How a layer computes in codes; None stands for what stays in float."""

    input_scale: Tensor | None
    number_format: NumberFormat
    weight: Tensor
    bias: Tensor | None
    output_scales: tuple[Tensor, ...]


class QuantizedLayer:
    """Lets a layer compute with floats or in codes, and leaves it what it is.

    The layer keeps its class, its parameters, its hooks and its place in the network. Only its
    ``forward`` is exchanged, on the instance, between `attach` and `detach`.

    Parameters
    ----------
    layer
        The float layer; its parameters are read and never written.
    name
        Its qualified name in the network.

    Attributes
    ----------
    observe
        Receives the layer's name and input before each pass, where it is set.
    given
        Identities of the parameters that were weight and bias before anything was done to the
        network; None without one. The parameters themselves are not kept alive.
    first_reader
        The layer that reads the same input before this one does, if there is one: its codes
        are used again. ``is_read_on`` is set in that layer.
    """

    def __init__(self, layer: nn.Module, name: str):
        self.layer = layer
        self.name = name
        self.observe: Callable[[str, Tensor], None] | None = None
        self.given = {
            role: None if (parameter := layer._parameters.get(role)) is None else id(parameter)
            for role in ("weight", "bias")
        }
        self.first_reader: QuantizedLayer | None = None
        self.is_read_on = False
        self._has_own_forward = "forward" in vars(layer)
        self._original: Callable[..., Any] = layer.forward
        self._input_name = next(iter(inspect.signature(self._original).parameters), "input")
        self._kept: tuple[Tensor, Tensor] | None = None
        self._codes: _Codes | None = None
        self._trial: tuple[Tensor, Tensor | None, float] | None = None
        self._starts = [0]

    def __deepcopy__(self, memo: dict[int, Any]) -> "QuantizedLayer":
        """The same for a copy of the layer; codes and the observer are shared."""
        twin = copy.copy(self)
        memo[id(self)] = twin
        twin.layer, twin._original, twin.first_reader = copy.deepcopy(
            (self.layer, self._original, self.first_reader), memo
        )
        twin._kept = None
        return twin

    @property
    def start_number(self) -> int:
        """Grows from pass to pass of any layer; 0 before the first since the last `use_…`."""
        return self._starts[0]

    def attach(self) -> None:
        """Exchange the layer's ``forward``."""
        vars(self.layer)["forward"] = self.forward

    def detach(self) -> None:
        """Give the layer back the ``forward`` that it had."""
        if self._has_own_forward:
            vars(self.layer)["forward"] = self._original
        else:
            vars(self.layer).pop("forward", None)

    @property
    def weight(self) -> Tensor:
        """The float weight, float32."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight.detach().float()

    @property
    def bias(self) -> Tensor | None:
        """The float bias, float32, if there is one."""
        bias = self.layer.bias
        return bias.detach().float() if isinstance(bias, Tensor) else None

    @property
    def param_count(self) -> int:
        """Elements of weight and bias."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    @property
    def kind(self) -> str:
        """The class of the layer, such as ``Conv2d``."""
        return type(self.layer).__name__

    @property
    def has_torch_forward(self) -> bool:
        """Whether the layer computes as torch's own class of its kind does."""
        return (
            type(self.layer).forward in _TORCH_FORWARDS
            and getattr(type(self.layer), "_conv_forward", None) in _TORCH_CONV_FORWARDS
            and not self._has_own_forward
        )

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
        self._codes = self._kept = self._trial = None
        self._starts[0] = 0

    def use_codes(self, coded: CodedLayer, scope: str = "all") -> None:
        """Compute with codes of what the scope names: ``all``, ``weight``, ``bias`` or ``input``.

        The sum runs over codes and is scaled once; a float bias is brought to that scale.
        """
        self.use_float()
        codes_input, codes_weight = scope in ("all", "input"), scope in ("all", "weight")
        one = torch.ones_like(coded.input_scale)
        weight_scale = coded.weight.scale if codes_weight else one
        input_scale = coded.input_scale if codes_input else one
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
        self._codes = _Codes(
            coded.input_scale if codes_input else None,
            coded.number_format,
            coded.weight.codes if codes_weight else self.weight,
            bias,
            () if scope == "bias" else _factors(input_scale, weight_scale),
        )

    def use_scaled_units(self) -> None:
        """Compute with floats in other units, exactly: a trial of what computing in codes needs.

        Inputs by 2, weights by 4, so biases and outputs by 8: float32 divides by powers of two
        without rounding, and nothing overflows. A layer whose outputs do not scale so, or that
        reads its weight or input in another way, puts out something else.
        """
        self.use_float()
        weight, bias = self.layer.weight, self.layer.bias
        assert isinstance(weight, Tensor)
        self._trial = (
            weight.detach(),
            bias.detach() if isinstance(bias, Tensor) else None,
            _norm(weight),
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own, whatever it computes with."""
        name = self._keyword(args, kwargs)
        inputs = args[0] if args else kwargs.get(name)
        if not isinstance(inputs, Tensor):
            return self._original(*args, **kwargs)
        self._starts[0] = next(_STARTS)
        if self.observe is not None:
            self.observe(self.name, inputs)
        if self._codes is None and self._trial is None:
            return self._original(*args, **kwargs)
        if args:
            args = (self._codes_of(inputs), *args[1:])
        else:
            kwargs = {**kwargs, name: self._codes_of(inputs)}
        if self._codes is None:
            return self._tried(args, kwargs)
        with _without_autocast(inputs), self._parameters(self._codes.weight, self._codes.bias):
            outputs: Tensor = self._original(*args, **kwargs)
        for scale in self._codes.output_scales:
            outputs = outputs.mul_(self._along_channels(scale))
        return outputs.to(_output_dtype(inputs))

    def _keyword(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The name under which the input is given, where it is not the first argument."""
        if args or isinstance(kwargs.get(self._input_name), Tensor):
            return self._input_name
        tensors = (name for name, value in kwargs.items() if isinstance(value, Tensor))
        return next(tensors, self._input_name)

    def computes_in_scaled_units(self, inputs: Tensor) -> bool:
        """Whether scaling weight and bias, or input and bias, scales the outputs alike.

        That is what computing in codes rests on. The classes of torch do; a subclass with a
        forward of its own is tried with powers of two, which float32 multiplies by exactly.
        """
        if self.has_torch_forward:
            return True
        weight, bias = self.layer.weight, self.layer.bias
        assert isinstance(weight, Tensor)
        scaled_bias = bias * 4 if isinstance(bias, Tensor) else None
        try:
            with torch.no_grad(), self._nonzero_parameters():
                expected = self._original(inputs.clone())
                if not isinstance(expected, Tensor):
                    return False
                with self._parameters(weight * 4, scaled_bias):
                    by_weight = self._original(inputs.clone())
                with self._parameters(weight, scaled_bias):
                    by_input = self._original(inputs * 4)
        except Exception:  # it takes more than its input: the network as a whole is to tell
            return True
        return torch.equal(by_weight, expected * 4) and torch.equal(by_input, expected * 4)

    def _codes_of(self, inputs: Tensor) -> Tensor:
        """The input in codes, or as it is; a tensor that several layers read is coded once."""
        if self._codes is not None and self._codes.input_scale is None:
            return inputs.float()
        kept = None if self.first_reader is None else self.first_reader._kept
        if kept is not None and kept[0] is inputs:
            return kept[1]
        if self._codes is None or self._codes.input_scale is None:
            codes = inputs / 2
        else:
            codes = scaled_codes(
                inputs.float(),
                self._codes.input_scale,
                self._codes.number_format,
                keep_nan=True,
            )
        if self.is_read_on:
            self._kept = (inputs, codes)
        return codes

    def _tried(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The outputs of a trial; NaN where the network has changed the weight since."""
        assert self._trial is not None
        weight, bias, norm = self._trial
        with self._parameters(weight / 4, None if bias is None else bias / 8):
            outputs: Tensor = self._original(*args, **kwargs) * 8
        return outputs if _norm(weight) == norm else outputs * torch.nan

    @contextmanager
    def _nonzero_parameters(self) -> Iterator[None]:
        """Let ones stand in for further parameters that are all 0: products of 0 tell nothing."""
        before = self.layer._parameters
        vars(self.layer)["_parameters"] = {
            name: nn.Parameter(torch.ones_like(value), requires_grad=False)
            if value is not None and name not in ("weight", "bias") and not bool(value.any())
            else value
            for name, value in before.items()
        }
        try:
            yield
        finally:
            vars(self.layer)["_parameters"] = before

    @contextmanager
    def _parameters(self, weight: Tensor, bias: Tensor | None) -> Iterator[None]:
        """Let the layer find other parameters than its own meanwhile."""
        before = self.layer._parameters
        vars(self.layer)["_parameters"] = {
            **before,
            "weight": nn.Parameter(weight, requires_grad=False),
            "bias": None if bias is None else nn.Parameter(bias, requires_grad=False),
        }
        try:
            yield
        finally:
            vars(self.layer)["_parameters"] = before

    def _along_channels(self, scale: Tensor) -> Tensor:
        """A scale per output channel, shaped to the outputs; a single one stays as it is."""
        if scale.ndim == 0 or isinstance(self.layer, nn.Linear):
            return scale.reshape(-1) if scale.ndim else scale
        return scale.reshape(-1, *[1] * (self.weight.ndim - 2))


def _norm(weight: Tensor) -> float:
    """What changes when the weight does."""
    return float(torch.linalg.vector_norm(weight.detach(), dtype=torch.float64))


def _factors(input_scale: Tensor, weight_scale: Tensor) -> tuple[Tensor, ...]:
    """What outputs are multiplied by: the product of both scales, or one after the other.

    A product that float32 cannot hold would make 0 times infinity, a NaN, of an output of 0.
    """
    product, limits = input_scale * weight_scale, torch.finfo(torch.float32)
    if bool(((product >= limits.tiny) & (product <= limits.max)).all()):
        return (product,)
    return (input_scale, weight_scale)


def _output_dtype(inputs: Tensor) -> torch.dtype:
    """What the float layer would put out: autocast makes it a lower precision."""
    device = inputs.device.type
    if torch.is_autocast_enabled(device) and inputs.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return inputs.dtype


def _without_autocast(inputs: Tensor) -> AbstractContextManager[object]:
    """Codes are multiplied in float32, whatever precision the network asks for around it."""
    if torch.is_autocast_enabled(inputs.device.type):
        return torch.autocast(inputs.device.type, enabled=False)
    return nullcontext()


def quantizable_layers(module: nn.Module) -> dict[str, QuantizedLayer]:
    """Every convolution and linear layer of a network, by name; not attached yet.

    A layer that stands in several places has the first of its names. A weight that is no
    parameter, but computed anew at each pass, cannot be held in codes, and one without elements
    has nothing to quantize: such a layer is left out.
    """
    return {
        name: QuantizedLayer(layer, name)
        for name, layer in module.named_modules()
        if isinstance(layer, QUANTIZED_KINDS)
        and (weight := layer._parameters.get("weight")) is not None
        and weight.is_floating_point()
        and weight.numel()
    }
