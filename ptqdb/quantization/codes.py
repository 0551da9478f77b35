"""Tensors in units of their scale: the codes of a layer's weight and bias."""

from dataclasses import dataclass

from torch import Tensor

from ptqdb.quantization.number_formats import NumberFormat, bias_format
from ptqdb.quantization.rounding import scaled_codes
from ptqdb.quantization.schemes import Scheme, compute_scale


@dataclass(frozen=True)
class CodedTensor:
    """A tensor in units of its scale.

    Attributes
    ----------
    codes
        Same shape as the tensor; float32 for weights, float64 for biases.
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
        None if the layer has none.
    """

    number_format: NumberFormat
    input_scale: Tensor
    weight: CodedTensor
    bias: CodedTensor | None


def code_weight(weight: Tensor, number_format: NumberFormat, scheme: Scheme) -> CodedTensor:
    """Quantize a float32 weight: ``round(weight / scale)``, with a true float32 division."""
    scale = compute_scale(scheme.weight_max_abs(weight), number_format)
    return CodedTensor(scaled_codes(weight, scale, number_format), scale)


def code_parameters(
    weight: Tensor,
    bias: Tensor | None,
    max_abs: Tensor,
    number_format: NumberFormat,
    scheme: Scheme,
) -> CodedLayer:
    """Quantize weight and bias of a layer to a format.

    Parameters
    ----------
    weight, bias
        float32; the bias at the scale of the input times that of the weight.
    max_abs
        float32, shape (): the amax of the layer's input over the calibration images.
    """
    input_scale = compute_scale(max_abs, number_format)
    coded_weight = code_weight(weight, number_format, scheme)
    coded_bias = None
    if bias is not None:
        bias_scale = input_scale.double() * coded_weight.scale.double().reshape(-1)
        coded_bias = code_bias(bias, bias_scale.squeeze(), number_format)
    return CodedLayer(number_format, input_scale, coded_weight, coded_bias)


def code_bias(bias: Tensor, scale: Tensor, number_format: NumberFormat) -> CodedTensor:
    """Quantize a bias to the bias format of the family, in float64, saturating.

    Parameters
    ----------
    bias
        float32, (out_channels,).
    scale
        float64, the scale of the input times that of the weight.
    number_format
        The format of weights and inputs; its family determines that of the bias.
    """
    codes = scaled_codes(bias.double(), scale, bias_format(number_format.family))
    return CodedTensor(codes, scale)
