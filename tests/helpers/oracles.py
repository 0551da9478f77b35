"""What tests ask of a network or a tensor, in terms of what the package computes for many."""

import torch
from torch import Tensor, nn

from ptqdb.measurement.macs import count_work, layer_macs
from ptqdb.measurement.softmax_divergence import softmax_divergences
from ptqdb.networks.checkpoints import TrainedNetwork
from ptqdb.networks.outputs import check_outputs
from ptqdb.quantization.formats import find_format
from ptqdb.quantization.group_scaling import dequantized_rows, weight_rule
from ptqdb.quantization.layers import QUANTIZED_KINDS
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.quantization.rounding import round_to_codes_


def count_macs(module: nn.Module, example: Tensor) -> dict[str, int]:
    """The MACs of every convolution and linear layer, by name."""
    layers = [name for name, part in module.named_modules() if isinstance(part, QUANTIZED_KINDS)]
    return layer_macs(count_work(module, example), layers)


def softmax_divergence(values: Tensor, dequantized: Tensor) -> float:
    """The Jensen-Shannon divergence of paired softmaxes, in bits, summed over groups."""
    return softmax_divergences(values, dequantized, [1.0])[0]


def output_count(trained: TrainedNetwork, image_shape: tuple[int, int, int]) -> int:
    """The number of a network's classes."""
    return check_outputs(trained, torch.zeros(1, *image_shape))


def round_to_codes(
    values: Tensor, number_format: NumberFormat, *, keep_nan: bool = False
) -> Tensor:
    """The nearest code of each value, in a new tensor."""
    return round_to_codes_(values.detach().clone(), number_format, keep_nan=keep_nan)


def quantize_rows(name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The dequantized values and the scales of a weight, (out_channels, fan-in), in a format."""
    known = find_format(name)
    rule = weight_rule(rows, known.number_format, known.scheme)
    values, groups = dequantized_rows(rows, rule)
    return values, groups.scales
