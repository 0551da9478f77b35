"""Convolutions and linear layers that compute in floats or in codes."""

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

from ptqdb.quantization.codes import CodedLayer, code_parameters
from ptqdb.quantization.input_codes import InputCodes, InputRange
from ptqdb.quantization.integer_products import IntegerProduct, multiplies_bytes, takes
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.quantization.schemes import Scheme

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
    """The codes a layer computes with; None for a part that stays in float.

    Attributes
    ----------
    integers
        The product in integers, where it is used.
    """

    inputs: InputCodes | None
    weight: Tensor
    bias: Tensor | None
    output_scales: tuple[Tensor, ...]
    integers: IntegerProduct | None = None


class QuantizedLayer:
    """Switches a layer between floats and codes without replacing it.

    The layer keeps its class, parameters, hooks and place in the network. Only the ``forward`` of
    the instance is replaced between `attach` and `detach`.

    Parameters
    ----------
    layer
        The float layer; its parameters are never written.
    name
        Its qualified name in the network.

    Attributes
    ----------
    observe
        If set, receives the layer's name and input before each pass.
    revise
        If set, receives the layer's name and output after each pass in floats, and returns the
        output to continue with.
    given
        The ids of weight and bias before any change to the network; None without one. Holds no
        references to the parameters.
    is_folded
        Whether a batch norm was folded into weight and bias.
    first_reader
        The layer that read the same input earlier, if any: its codes are reused. ``is_read_on`` is
        set in that layer.
    """

    def __init__(self, layer: nn.Module, name: str):
        self.layer = layer
        self.name = name
        self.observe: Callable[[str, Tensor], None] | None = None
        self.revise: Callable[[str, Tensor], Tensor] | None = None
        self.given = {
            role: None if (parameter := layer._parameters.get(role)) is None else id(parameter)
            for role in ("weight", "bias")
        }
        self.is_folded = False
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
        """Return the same for a copy of the layer; codes and the observer are shared."""
        twin = copy.copy(self)
        memo[id(self)] = twin
        twin.layer, twin._original, twin.first_reader = copy.deepcopy(
            (self.layer, self._original, self.first_reader), memo
        )
        twin._kept = None
        return twin

    @property
    def start_number(self) -> int:
        """Counter of layer starts; 0 before the first start since the last `use_…`."""
        return self._starts[0]

    def attach(self) -> None:
        """Replace the layer's ``forward``."""
        vars(self.layer)["forward"] = self.forward

    def detach(self) -> None:
        """Restore the layer's own ``forward``."""
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
        """The float bias, float32, if any."""
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
        """Whether the layer uses the forward of torch's own class."""
        return (
            type(self.layer).forward in _TORCH_FORWARDS
            and getattr(type(self.layer), "_conv_forward", None) in _TORCH_CONV_FORWARDS
            and not self._has_own_forward
        )

    def code(
        self, input_range: InputRange, number_format: NumberFormat, scheme: Scheme
    ) -> CodedLayer:
        """Quantize weight and bias to a number format under a scheme.

        Parameters
        ----------
        input_range
            Of the layer's input over the calibration images.
        """
        return code_parameters(
            self.weight, self.bias, input_range, number_format, scheme, self.layer
        )

    def use_float(self) -> None:
        """Compute in floats."""
        self._codes = self._kept = self._trial = None
        self._starts[0] = 0

    def use_codes(
        self, coded: CodedLayer, scope: str = "all", *, in_integers: bool = False
    ) -> None:
        """Compute with codes of the given scope: ``all``, ``weight``, ``bias`` or ``input``.

        The layer accumulates codes and rescales the sum once; a float bias is divided by that
        scale. Under schemes with many scales the codes are dequantized values, and the scale is 1.

        Parameters
        ----------
        in_integers
            Whether to multiply on integer units where the layer can; only with the scope ``all``
            and a format that ``fits_bytes``.
        """
        self.use_float()
        inputs = coded.inputs if scope in ("all", "input") else None
        codes_weight = scope in ("all", "weight")
        one = torch.ones((), device=self.weight.device)
        weight_scale = coded.weight.scale if codes_weight else one
        input_scale = one if inputs is None else inputs.scale
        bias = self.bias
        if bias is not None and (coded.bias is None or scope in ("weight", "input")):
            largest = torch.finfo(torch.float32).max  # a tiny scale would overflow it
            output_scale = input_scale.double() * weight_scale.double().reshape(-1)
            bias = (bias.double() / output_scale).clamp_(-largest, largest).float()
        elif bias is not None and coded.bias is not None:
            codes = coded.bias.codes
            bias = (codes if scope == "all" else codes * coded.bias.scale).float()
        self._codes = _Codes(
            inputs,
            coded.weight.codes if codes_weight else self.weight,
            bias,
            () if scope == "bias" else _factors(input_scale, weight_scale),
            self._integer_product(coded, bias) if in_integers else None,
        )

    def _integer_product(self, coded: CodedLayer, bias: Tensor | None) -> IntegerProduct | None:
        """The layer's product in integers; None if it must use its own forward."""
        weight, inputs = coded.weight.codes, coded.inputs
        if inputs is None or inputs.bytes_of is None or not self.has_torch_forward:
            return None
        if not multiplies_bytes(self.layer, weight):
            return None
        return IntegerProduct(self.layer, weight, bias, coded.number_format, inputs.zero_byte)

    def use_scaled_units(self) -> None:
        """Compute in floats with scaled units, exactly: tests the requirements of codes.

        Inputs are divided by 2, weights by 4, biases and outputs by 8: float32 divides by powers of
        two without rounding or overflow. The outputs change if the layer's outputs do not scale
        accordingly, or if it reads its weight or input in another way.
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
        """The layer's forward, in floats or codes."""
        name = self._keyword(args, kwargs)
        inputs = args[0] if args else kwargs.get(name)
        if not isinstance(inputs, Tensor):
            return self._original(*args, **kwargs)
        self._starts[0] = next(_STARTS)
        if self.observe is not None:
            self.observe(self.name, inputs)
        if self._codes is None and self._trial is None:
            outputs = self._original(*args, **kwargs)
            return outputs if self.revise is None else self.revise(self.name, outputs)
        outputs = self._integer_outputs(inputs)
        if outputs is None:
            if args:
                args = (self._codes_of(inputs), *args[1:])
            else:
                kwargs = {**kwargs, name: self._codes_of(inputs)}
            if self._codes is None:
                return self._tried(args, kwargs)
            with _without_autocast(inputs), self._parameters(self._codes.weight, self._codes.bias):
                outputs = self._original(*args, **kwargs)
        assert self._codes is not None
        for scale in self._codes.output_scales:
            outputs = outputs.mul_(self._along_channels(scale))
        return outputs.to(_output_dtype(inputs))

    def _keyword(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The keyword of the input, if it is not the first positional argument."""
        if args or isinstance(kwargs.get(self._input_name), Tensor):
            return self._input_name
        tensors = (name for name, value in kwargs.items() if isinstance(value, Tensor))
        return next(tensors, self._input_name)

    def computes_in_scaled_units(self, inputs: Tensor) -> bool:
        """Whether scaling weight and bias, or input and bias, scales the outputs equally.

        Computing in codes requires it. It holds for torch's own classes; a subclass with its own
        forward is tested with powers of two, which are exact in float32.
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
        except (
            Exception
        ):  # it needs more than its input: the comparison of the whole network decides
            return True
        return torch.equal(by_weight, expected * 4) and torch.equal(by_input, expected * 4)

    def _integer_outputs(self, inputs: Tensor) -> Tensor | None:
        """The outputs before scaling, if computed in integers; None if they cannot be."""
        if self._codes is None or self._codes.integers is None or not takes(self.layer, inputs):
            return None
        codes = self._kept_codes(inputs, in_bytes=True)
        if codes is None:
            assert self._codes.inputs is not None
            assert self._codes.inputs.bytes_of is not None
            codes = self._codes.inputs.bytes_of(inputs.float())
            if codes is None:
                return None
            self._keep(inputs, codes)
        return self._codes.integers(codes)

    def _kept_codes(self, inputs: Tensor, *, in_bytes: bool) -> Tensor | None:
        """The codes of this input that another layer computed, if any."""
        kept = None if self.first_reader is None else self.first_reader._kept
        if kept is None or kept[0] is not inputs or (kept[1].dtype == torch.uint8) != in_bytes:
            return None
        return kept[1]

    def _keep(self, inputs: Tensor, codes: Tensor) -> None:
        if self.is_read_on:
            self._kept = (inputs, codes)

    def _codes_of(self, inputs: Tensor) -> Tensor:
        """The input in codes, or unchanged; a tensor read by several layers is quantized once."""
        if self._codes is not None and self._codes.inputs is None:
            return inputs.float()
        kept = self._kept_codes(inputs, in_bytes=False)
        if kept is not None:
            return kept
        if self._codes is None or self._codes.inputs is None:
            codes = inputs / 2
        else:
            codes = self._codes.inputs.codes_of(inputs.float())
        self._keep(inputs, codes)
        return codes

    def _tried(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The outputs in scaled units; NaN if the network has changed the weight since."""
        assert self._trial is not None
        weight, bias, norm = self._trial
        with self._parameters(weight / 4, None if bias is None else bias / 8):
            outputs: Tensor = self._original(*args, **kwargs) * 8
        return outputs if _norm(weight) == norm else outputs * torch.nan

    @contextmanager
    def _nonzero_parameters(self) -> Iterator[None]:
        """Temporarily replace other parameters that are all 0 by ones: zeros would hide scaling."""
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
        """Temporarily replace the layer's parameters."""
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
        """Reshape a scale per output channel to the outputs; a single scale stays unchanged."""
        if scale.ndim == 0 or isinstance(self.layer, nn.Linear):
            return scale.reshape(-1) if scale.ndim else scale
        return scale.reshape(-1, *[1] * (self.weight.ndim - 2))


def _norm(weight: Tensor) -> float:
    """A fingerprint of the weight, to detect changes."""
    return float(torch.linalg.vector_norm(weight.detach(), dtype=torch.float64))


def _factors(input_scale: Tensor, weight_scale: Tensor) -> tuple[Tensor, ...]:
    """The factors of the outputs: the product of both scales, or one after the other; none for 1.

    If the product overflows float32, an output of 0 would become 0 times infinity, a NaN.
    """
    product, limits = input_scale * weight_scale, torch.finfo(torch.float32)
    if bool((product == 1).all()):
        return ()
    if bool(((product >= limits.tiny) & (product <= limits.max)).all()):
        return (product,)
    return (input_scale, weight_scale)


def _output_dtype(inputs: Tensor) -> torch.dtype:
    """The output dtype of the float layer: autocast lowers it."""
    device = inputs.device.type
    if torch.is_autocast_enabled(device) and inputs.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return inputs.dtype


def _without_autocast(inputs: Tensor) -> AbstractContextManager[object]:
    """Disable autocast: codes are multiplied in float32."""
    if torch.is_autocast_enabled(inputs.device.type):
        return torch.autocast(inputs.device.type, enabled=False)
    return nullcontext()


def quantizable_layers(module: nn.Module) -> dict[str, QuantizedLayer]:
    """Return every convolution and linear layer of a network, by name; not yet attached.

    A layer used under several names has the first one. Layers are omitted if their weight is not a
    parameter but recomputed at each pass, or has no elements.
    """
    return {
        name: QuantizedLayer(layer, name)
        for name, layer in module.named_modules()
        if isinstance(layer, QUANTIZED_KINDS)
        and (weight := layer._parameters.get("weight")) is not None
        and weight.is_floating_point()
        and weight.numel()
    }
