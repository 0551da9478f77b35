"""Quantizes a layer in a format: under its scheme, or by a user's own quantizer."""

import torch
from torch import Tensor

from ptqdb.errors import DataError
from ptqdb.quantization.codes import CodedLayer, CodedTensor, code_weight
from ptqdb.quantization.formats import Format
from ptqdb.quantization.group_scaling import Groups
from ptqdb.quantization.input_codes import InputCodes, InputRange, input_codes
from ptqdb.quantization.layers import QuantizedLayer
from ptqdb.quantization.own_quantizers import OwnQuantizer


def code_layer(layer: QuantizedLayer, found: InputRange, known: Format) -> CodedLayer:
    """Quantize weight and bias of a layer.

    Parameters
    ----------
    found
        The range of the layer's input over the calibration images.

    Raises
    ------
    DataError
        The weight is not finite, or the user's own function fails or returns no such tensor.
    """
    if known.own is None:
        return layer.code(found, known.number_format, known.scheme)
    inputs = code_input(layer, found, known)
    weight = code_layer_weight(layer, known)
    return CodedLayer(known.number_format, known.scheme, inputs, weight, None)


def code_layer_weight(layer: QuantizedLayer, known: Format) -> CodedTensor:
    """Quantize the weight of a layer; see `code_layer`."""
    weight = layer.weight
    if known.own is None:
        return code_weight(weight, known.number_format, known.scheme, layer.layer)
    values = _own_values(weight, "weight", known.own)
    if not bool(values.isfinite().all()):
        raise DataError(f"expected finite values of {known.name}, found NaN or infinity")
    bits = known.own.bits_per_weight
    storage_bits = None if bits is None else round(bits * weight.numel())
    none = weight.new_empty(0)
    return CodedTensor(values, weight.new_ones(()), Groups(none, None, storage_bits))


def code_input(layer: QuantizedLayer, found: InputRange, known: Format) -> InputCodes | None:
    """Return how a layer's input is quantized; None if it stays in floats."""
    own = known.own
    if own is None:
        return input_codes(layer.layer, found, known.number_format, known.scheme)
    if not own.takes_role:
        return None

    def groups_of(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return _own_values(inputs, "input", own), inputs.new_empty(0)

    return InputCodes(
        torch.ones_like(found.high), lambda inputs: groups_of(inputs)[0], groups_of=groups_of
    )


def _own_values(values: Tensor, role: str, own: OwnQuantizer) -> Tensor:
    """The user's dequantized tensor, float32, which is not the given one."""
    name = own.scheme.name
    arguments = (values.clone(), role) if own.takes_role else (values.clone(),)
    try:
        found = own.function(*arguments)
    except Exception as error:  # a user's own code may raise anything
        what = " ".join(str(error).split()) or "no message"
        raise DataError(f"{name} failed: {type(error).__name__}: {what}") from error
    if not isinstance(found, Tensor) or found.shape != values.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise DataError(
            f"expected {name} to return a tensor of the shape {tuple(values.shape)}, found {shape}"
        )
    # a copy: the function may write into the same tensor again
    return found.detach().to(values.device, torch.float32, copy=True)
