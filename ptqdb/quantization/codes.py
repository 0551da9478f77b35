"""A layer's weight and bias in a number format under a scheme, ready to compute with."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.quantization.channels import along_output_channels, by_fan_in, from_fan_in
from ptqdb.quantization.gguf_blocks import Q4_K_BLOCK_SIZE
from ptqdb.quantization.group_scaling import Groups, dequantized_rows, weight_rule
from ptqdb.quantization.input_codes import InputCodes, InputRange, input_codes
from ptqdb.quantization.number_formats import NumberFormat, bias_format, number_format
from ptqdb.quantization.rounding import scaled_codes
from ptqdb.quantization.scales import compute_scale, max_abs
from ptqdb.quantization.schemes import SCALE_BITS, Scheme

INT32 = number_format("INT_32")


@dataclass(frozen=True)
class CodedTensor:
    """A tensor in units of its scale.

    Attributes
    ----------
    codes
        Same shape as the tensor; float32 for weights, float64 for biases. Where values share a
        scale in blocks, these are the dequantized values, and the scale is 1.
    scale
        float32 (weights) or float64 (biases): shape (), or (out_channels,).
    groups
        The scales, under schemes other than the study's; None under that.
    """

    codes: Tensor
    scale: Tensor
    groups: Groups | None = None

    def dequantized(self, layer: nn.Module | None = None) -> Tensor:
        """Return codes times scale.

        Parameters
        ----------
        layer
            Of a weight with a scale per output channel.
        """
        if self.scale.ndim and layer is not None and self.codes.ndim > 1:
            return self.codes * along_output_channels(layer, self.scale)
        return self.codes * self.scale


@dataclass(frozen=True)
class CodedLayer:
    """The codes of one layer in one number format under one scheme.

    Attributes
    ----------
    inputs
        How the input is quantized; None: not at all.
    bias
        None if the layer has none, or if the scheme keeps it in floats.
    """

    number_format: NumberFormat
    scheme: Scheme
    inputs: InputCodes | None
    weight: CodedTensor
    bias: CodedTensor | None


def code_weight(
    weight: Tensor, known: NumberFormat, scheme: Scheme, layer: nn.Module | None = None
) -> CodedTensor:
    """Quantize a float32 weight.

    Parameters
    ----------
    layer
        The weight's layer; None: one whose weight is (out_channels, ...), as all but transposed
        convolutions.

    Raises
    ------
    DataError
        The weight is not finite.
    """
    largest = max_abs(weight)
    if scheme.is_of_study:
        scale = compute_scale(largest, known)
        return CodedTensor(scaled_codes(weight, scale, known), scale)
    if not bool(largest.isfinite()):
        raise DataError("expected finite weights to quantize, found NaN or infinity")
    rows = by_fan_in(layer, weight)
    values, groups = dequantized_rows(rows, weight_rule(rows, known, scheme), counts_clipped=True)
    groups = replace(groups, storage_bits=_storage_bits(rows, len(groups.scales), known, scheme))
    if not _is_in_codes(known, scheme):
        return CodedTensor(from_fan_in(layer, values, weight), torch.ones_like(largest), groups)
    scales = groups.scales
    codes = from_fan_in(layer, (values / scales[:, None]).round_(), weight)
    return CodedTensor(codes, scales.squeeze() if len(scales) == 1 else scales, groups)


def _storage_bits(rows: Tensor, group_count: int, known: NumberFormat, scheme: Scheme) -> int:
    """Bits of the codes, scales and zero points of a weight."""
    bits = rows.numel() * known.bits
    if scheme.scale_format == "6-bit":
        superblocks = len(rows) * math.ceil(rows.shape[1] / Q4_K_BLOCK_SIZE)
        return bits + group_count * 2 * 6 + superblocks * 2 * 16
    zero_point_bits = known.bits if scheme.symmetry == "zero_point" else 0
    of_tensor = 32 if scheme.scale_format == "E4M3" else 0
    return bits + group_count * (SCALE_BITS[scheme.scale_format] + zero_point_bits) + of_tensor


def code_parameters(
    weight: Tensor,
    bias: Tensor | None,
    found: InputRange,
    known: NumberFormat,
    scheme: Scheme,
    layer: nn.Module | None = None,
) -> CodedLayer:
    """Quantize weight and bias of a layer.

    Parameters
    ----------
    weight, bias
        float32; the bias, if it is quantized, at the scale of the input times that of the weight.
    found
        The range of the layer's input over the calibration images.
    layer
        The layer; None: as in `code_weight`.
    """
    inputs = input_codes(layer, found, known, scheme)
    coded_weight = code_weight(weight, known, scheme, layer)
    coded_bias = None
    if bias is not None and scheme.bias != "float32" and inputs is not None:
        of_bias = INT32 if scheme.bias == "INT32" else bias_format(known.family)
        coded_bias = code_bias(bias, _output_scale(inputs, coded_weight), of_bias)
        if not scheme.is_of_study:
            bits = of_bias.bits * bias.numel()
            groups = Groups(coded_bias.scale.reshape(-1), None, bits)
            coded_bias = replace(coded_bias, groups=groups)
        if not _is_in_codes(known, scheme):
            values = coded_bias.dequantized()
            coded_bias = replace(coded_bias, codes=values, scale=values.new_ones(()))
    return CodedLayer(known, scheme, inputs, coded_weight, coded_bias)


def _is_in_codes(known: NumberFormat, scheme: Scheme) -> bool:
    """Whether layers compute with codes, not with dequantized values."""
    return scheme.is_of_study or (scheme.accumulates_codes and known.family == "INT")


def _output_scale(inputs: InputCodes, weight: CodedTensor) -> Tensor:
    """The scale of the input times that of the weight, float64, () or (out_channels,)."""
    of_input = inputs.scale if inputs.calibrated_scale is None else inputs.calibrated_scale
    of_weight = weight.scale if weight.groups is None else weight.groups.scales
    return (of_input.double() * of_weight.double().reshape(-1)).squeeze()


def code_bias(bias: Tensor, scale: Tensor, known: NumberFormat) -> CodedTensor:
    """Quantize a bias in float64, saturating.

    Parameters
    ----------
    bias
        float32, (out_channels,).
    scale
        float64, () or (out_channels,): the scale of the input times that of the weight.
    known
        The number format of the bias.
    """
    return CodedTensor(scaled_codes(bias.double(), scale, known), scale)
