"""Quantizes the inputs of a layer while the network runs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqdb.quantization.group_scaling import (
    GroupRule,
    Groups,
    dequantized_rows,
    input_rule,
    scale_of_range,
)
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.quantization.rounding import ZERO_BYTE, byte_codes, scaled_codes
from ptqdb.quantization.scales import compute_scale
from ptqdb.quantization.schemes import MSE_FRACTIONS, PERCENTILE, Scheme


@dataclass(frozen=True)
class InputRange:
    """The range of a layer's input over the calibration images.

    Attributes
    ----------
    low, high
        float32, shape ().
    counts
        int64, (4095,): histogram as in ``ptqdb.measurement.tensors.histogram``; None if not
        measured. Only range rules other than ``max`` need it.
    """

    low: Tensor
    high: Tensor
    counts: Tensor | None = None

    @property
    def max_abs(self) -> Tensor:
        """The largest absolute value, float32, shape ()."""
        return torch.maximum(-self.low, self.high)

    @classmethod
    def symmetric(cls, max_abs: Tensor) -> "InputRange":
        """Return the range from ``-max_abs`` to ``max_abs``."""
        return cls(-max_abs, max_abs)

    def joined(self, other: "InputRange | None") -> "InputRange":
        """Return the range of both inputs."""
        if other is None:
            return self
        return InputRange(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))


@dataclass(frozen=True)
class InputCodes:
    """How the input of one layer is quantized.

    Attributes
    ----------
    scale
        float32, shape (): what codes are multiplied by; 1 if they are dequantized values.
    codes_of
        Returns the codes of an input, float32 of the same shape. NaN stays NaN.
    bytes_of
        Returns them as bytes: uint8, code plus `zero_byte`; None if a value is NaN.
    zero_byte
        The byte of code 0.
    groups_of
        Returns the dequantized values and the scales, if these are computed from each input; None
        if they are not.
    calibrated_scale
        The scale of dequantized values that share one; None where it is `scale`.
    """

    scale: Tensor
    codes_of: Callable[[Tensor], Tensor]
    bytes_of: Callable[[Tensor], Tensor | None] | None = None
    zero_byte: int = ZERO_BYTE
    groups_of: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    calibrated_scale: Tensor | None = None

    @property
    def is_dynamic(self) -> bool:
        """Whether the scales are computed from each input."""
        return self.groups_of is not None

    def dequantized(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the dequantized values of an input, float32, and the scales, flat."""
        if self.groups_of is not None:
            return self.groups_of(inputs)
        return self.codes_of(inputs) * self.scale, (
            self.scale if self.calibrated_scale is None else self.calibrated_scale
        ).reshape(1)


def input_codes(
    layer: nn.Module | None, found: InputRange, known: NumberFormat, scheme: Scheme
) -> InputCodes | None:
    """Return how a layer's input is quantized; None if the scheme keeps it in floats.

    Parameters
    ----------
    layer
        Its class tells which dimension of the input has the channels.
    found
        The range of the input over the calibration images.
    """
    if scheme.is_of_study:
        scale = compute_scale(found.max_abs, known)
        return InputCodes(
            scale,
            lambda inputs: scaled_codes(inputs, scale, known, keep_nan=True),
            lambda inputs: byte_codes(inputs, scale, known),
        )
    if scheme.input_granularity == "float":
        return None
    if scheme.input_granularity == "tensor":
        return _with_one_scale(found, known, scheme)
    assert layer is not None
    rule, dimension = input_rule(known, scheme, found.max_abs), channel_dimension(layer)

    def groups_of(inputs: Tensor) -> tuple[Tensor, Tensor]:
        values, groups = dequantized_tokens(inputs, dimension, rule)
        return values, groups.scales

    return InputCodes(
        torch.ones_like(found.high), lambda inputs: groups_of(inputs)[0], groups_of=groups_of
    )


def _with_one_scale(found: InputRange, known: NumberFormat, scheme: Scheme) -> InputCodes:
    """Codes, or dequantized values, at the scale of the calibration images."""
    scale, zero_point = calibrated_scale(found, known, scheme)
    if not (scheme.accumulates_codes and known.family == "INT"):
        rule = GroupRule(known, fixed=(scale, zero_point))
        return InputCodes(
            torch.ones_like(scale),
            lambda inputs: dequantized_tokens(inputs, -1, rule)[0],
            calibrated_scale=scale,
        )
    if zero_point is None:
        return InputCodes(
            scale,
            lambda inputs: scaled_codes(inputs, scale, known, keep_nan=True),
            lambda inputs: byte_codes(inputs, scale, known),
        )
    largest, zero = (1 << known.bits) - 1, int(zero_point)

    def codes_of(inputs: Tensor) -> Tensor:
        return (inputs / scale).round_().clamp_(-zero, largest - zero)

    return InputCodes(scale, codes_of, lambda inputs: byte_codes(inputs, scale, known, zero), zero)


def channel_dimension(layer: nn.Module) -> int:
    """Return the dimension of a layer's input that has the channels, from the end.

    >>> channel_dimension(nn.Conv2d(3, 8, 3)), channel_dimension(nn.Linear(3, 8))
    (-3, -1)
    """
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return 1 - weight.ndim if not isinstance(layer, nn.Linear) else -1


def dequantized_tokens(
    inputs: Tensor, dimension: int, rule: GroupRule, *, counts_clipped: bool = False
) -> tuple[Tensor, Groups]:
    """Quantize an input along its channels; see ``dequantized_rows``.

    Parameters
    ----------
    inputs
        Any float dtype.
    dimension
        The channels; with one scale for all values it has no effect.

    Returns
    -------
    tuple[Tensor, Groups]
        float32 of the same shape; the scales.
    """
    values = inputs.float()
    if rule.fixed is not None:  # in memory order
        is_last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
        dimension = 1 if is_last else -1
    tokens = values.movedim(dimension, -1)
    found, groups = dequantized_rows(
        tokens.reshape(-1, tokens.shape[-1]), rule, counts_clipped=counts_clipped
    )
    return found.view(tokens.shape).movedim(-1, dimension), groups


def calibrated_scale(
    found: InputRange, known: NumberFormat, scheme: Scheme
) -> tuple[Tensor, Tensor | None]:
    """Return the scale and the zero point, if any, of an input with one scale: each ().

    The range rules ``percentile`` and ``mse`` take the centres of the histogram's bins for the
    values.
    """
    rule = input_rule(known, scheme, found.max_abs)
    if scheme.range_rule == "max" or found.counts is None:
        return scale_of_range(found.low, found.high, rule)
    largest = found.max_abs
    bins = torch.arange(len(found.counts), device=largest.device) - len(found.counts) // 2
    centres = bins * largest / (len(found.counts) // 2)
    if scheme.range_rule == "percentile":
        order = bins.abs().argsort(stable=True)
        reached = found.counts[order].cumsum(0) >= found.counts.sum() * (PERCENTILE / 100)
        limit = centres[order][reached.long().argmax()].abs()
        low, high = found.low.clamp(min=-limit), found.high.clamp(max=limit)
        return scale_of_range(low, high, rule)
    errors, tried = [], []
    for fraction in MSE_FRACTIONS:
        scale = scale_of_range(found.low * fraction, found.high * fraction, rule)
        values, _ = dequantized_rows(centres[None], GroupRule(known, fixed=scale))
        errors.append(float((found.counts * (values[0] - centres).double().square()).sum()))
        tried.append(scale)
    return tried[errors.index(min(errors))]
