"""Quantizes values in groups that share a scale: one kernel for every scheme."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ptqdb.quantization.gguf_blocks import (
    Q4_K_BLOCK_SIZE,
    QuantizedBlocks,
    quantize_q4_0,
    quantize_q4_k,
    quantize_q8_0,
)
from ptqdb.quantization.number_formats import NumberFormat, number_format
from ptqdb.quantization.rounding import CHUNK_ELEMENTS, round_to_codes_
from ptqdb.quantization.scales import max_abs, usable_scale
from ptqdb.quantization.schemes import MSE_FRACTIONS, PERCENTILE, Scheme

CLIPPING_TOLERANCE = 2.0**-20
"""Values beyond the largest code by less than this fraction do not count as clipped."""
_E4M3 = number_format("FLOAT_8_E4M3FN")
_LARGEST_FLOAT16 = 65504.0


@dataclass(frozen=True)
class GroupRule:
    """How values that share a scale are quantized.

    Attributes
    ----------
    size
        Consecutive values per group; None: a whole row.
    symmetry, range_rule, scale_format
        As in `Scheme`.
    tensor_scale
        For the scale format ``E4M3``: float32, shape (): the scale of the scales.
    fixed
        Scale and zero point of all values, each float32, shape (); None: computed by group.
    """

    number_format: NumberFormat
    size: int | None = None
    symmetry: str = "symmetric"
    range_rule: str = "max"
    scale_format: str = "float32"
    tensor_scale: Tensor | None = None
    fixed: tuple[Tensor, Tensor | None] | None = None


@dataclass(frozen=True)
class Groups:
    """The scales of a tensor's groups.

    Attributes
    ----------
    scales
        float32, flat: one per group; empty for values in float.
    clipped_count
        Values beyond the largest code; None if unknown.
    storage_bits
        Of all codes, scales and zero points; None if unknown.
    """

    scales: Tensor
    clipped_count: int | None = 0
    storage_bits: int | None = None


def weight_rule(rows: Tensor, known: NumberFormat, scheme: Scheme) -> GroupRule:
    """Return the rule for the rows of a weight.

    Parameters
    ----------
    rows
        float32, (out_channels, fan-in).
    """
    size = scheme.block_size if scheme.granularity == "block" else None
    size = Q4_K_BLOCK_SIZE if scheme.scale_format == "6-bit" else size
    rule = GroupRule(known, size, scheme.symmetry, scheme.range_rule, scheme.scale_format)
    if scheme.scale_format == "E4M3":
        rule = replace(rule, tensor_scale=tensor_scale(max_abs(rows), known))
    if scheme.granularity == "tensor":
        return replace(rule, fixed=_of_whole(rows, rule))
    return rule


def _of_whole(rows: Tensor, rule: GroupRule) -> tuple[Tensor, Tensor | None]:
    """The scale and the zero point of all values together, shape ()."""
    if rule.range_rule == "max":
        low, high = torch.aminmax(rows)
        return scale_of_range(low, high, rule)
    scale, zero_point = _scales(rows.reshape(1, -1), rule)
    return scale.squeeze(), None if zero_point is None else zero_point.squeeze()


def scale_of_range(low: Tensor, high: Tensor, rule: GroupRule) -> tuple[Tensor, Tensor | None]:
    """Return the scale and the zero point, if any, for values from low to high.

    Parameters
    ----------
    low, high
        float32, same shape.
    """
    if rule.symmetry == "zero_point":
        return zero_point_scale(low.clamp(max=0), high.clamp(min=0), rule)
    return stored_scale(torch.maximum(-low, high), rule), None


def input_rule(known: NumberFormat, scheme: Scheme, largest: Tensor) -> GroupRule:
    """Return the rule for the rows of an input (tokens by channels), if computed by group.

    Parameters
    ----------
    largest
        float32, shape (): amax over the calibration images.
    """
    size = scheme.block_size if scheme.input_granularity == "block" else None
    of_scales = tensor_scale(largest, known) if scheme.scale_format == "E4M3" else None
    return GroupRule(known, size, scheme.input_symmetry, "max", scheme.scale_format, of_scales)


def _quantizer(rule: GroupRule) -> Callable[[Tensor], QuantizedBlocks]:
    """The quantizer of a format of GGUF files."""
    if rule.scale_format == "6-bit":
        return quantize_q4_k
    return quantize_q8_0 if rule.number_format.bits == 8 else quantize_q4_0


def tensor_scale(largest: Tensor, known: NumberFormat) -> Tensor:
    """Return the float32 scale under which that of the largest block is the largest E4M3."""
    return usable_scale(largest.float() / (_E4M3.max_code * known.max_code))


@torch.no_grad()
def dequantized_rows(
    rows: Tensor, rule: GroupRule, *, counts_clipped: bool = False
) -> tuple[Tensor, Groups]:
    """Quantize each group of a row and return the dequantized values.

    ``value = round(x / scale) * scale``, with the nearest code, saturating, and true float32
    divisions; with a zero point, ``(clamp(round(x / scale) + zero point) - zero point) * scale``.

    Parameters
    ----------
    rows
        float32, (rows, columns). Groups do not cross rows; the last of a row may be shorter.
    counts_clipped
        Whether to count the values beyond the largest code, which costs a pass.

    Returns
    -------
    tuple[Tensor, Groups]
        float32 values of the same shape, contiguous; the scales of the groups, without their bits.

    Examples
    --------
    >>> rule = GroupRule(number_format("FLOAT_4_E2"), 2, scale_format="E8M0")
    >>> values, groups = dequantized_rows(torch.tensor([[1.2, 3.6, 0.3]]), rule)
    >>> values.tolist(), groups.scales.tolist()
    ([[1.0, 3.0, 0.25]], [0.5, 0.0625])
    """
    values = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    scales, clipped = [], 0
    for given, out in _chunks(rows, values, rule.size):
        if rule.range_rule == "gguf":
            found = _quantizer(rule)(given.reshape(-1, given.shape[-1]))
            out.copy_(found.values.view_as(out))
            scale = found.scales
        else:
            scale, zero_point = rule.fixed or _scales(given, rule)
            torch.div(given, scale, out=out)
            if counts_clipped:
                clipped += _clipped_count(out, zero_point, rule.number_format)
            _round_(out, zero_point, rule.number_format)
            out.mul_(scale)
        scales.append(scale.reshape(-1))
    if rule.fixed is not None:
        scales = [rule.fixed[0].reshape(1)]
    flat = torch.cat(scales) if scales else rows.new_empty(0)
    return values, Groups(flat, clipped)


def _chunks(rows: Tensor, out: Tensor, size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of matching groups, (rows, groups, values), of as many rows as fit the cache."""
    count, columns = rows.shape
    if not rows.numel():
        return
    size = min(size or columns, columns)
    whole = columns // size * size
    step = count
    if not rows.is_cuda:
        step = max(1, CHUNK_ELEMENTS * torch.get_num_threads() // columns)
    for start in range(0, count, step):
        given, made = rows[start : start + step], out[start : start + step]
        shape = (len(given), -1, size)
        yield given[:, :whole].view(shape), made[:, :whole].view(shape)
        if whole < columns:
            yield given[:, None, whole:], made[:, None, whole:]


def _scales(groups: Tensor, rule: GroupRule) -> tuple[Tensor, Tensor | None]:
    """The scale and the zero point, if any, of each group: float32, (..., 1)."""
    # together four times as fast as aminmax along a short dimension
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    largest = torch.maximum(-low, high)
    if rule.range_rule == "percentile":
        place = math.ceil(groups.shape[-1] * PERCENTILE / 100)
        largest = groups.abs().kthvalue(place, dim=-1, keepdim=True).values
    if rule.symmetry == "zero_point":
        low, high = torch.maximum(low, -largest), torch.minimum(high, largest)
    else:
        low, high = -largest, largest
    best = scale_of_range(low, high, rule)
    if rule.range_rule != "mse":
        return best
    least = _squared_error(groups, *best, rule)
    for fraction in MSE_FRACTIONS[1:]:
        tried = scale_of_range(low * fraction, high * fraction, rule)
        error = _squared_error(groups, *tried, rule)
        is_better = error < least
        least = torch.where(is_better, error, least)
        zero_point = best[1]
        if zero_point is not None and tried[1] is not None:
            zero_point = torch.where(is_better, tried[1], zero_point)
        best = torch.where(is_better, tried[0], best[0]), zero_point
    return best


def _squared_error(
    groups: Tensor, scale: Tensor, zero_point: Tensor | None, rule: GroupRule
) -> Tensor:
    quotients = groups / scale
    _round_(quotients, zero_point, rule.number_format)
    return quotients.mul_(scale).sub_(groups).square_().sum(-1, keepdim=True)


def stored_scale(largest: Tensor, rule: GroupRule) -> Tensor:
    """Return the scale of each group as it is stored, for a symmetric range.

    ``float32``, ``float16``: ``largest / max_code``, rounded. ``E8M0``: 2^(floor(log2 largest) -
    floor(log2 max_code)), at least 2^-127 (OCP Microscaling Formats (MX) Specification v1.0,
    6.3). ``E4M3``: ``largest / max_code / tensor scale``, rounded to FLOAT_8_E4M3FN (at least
    its smallest code, 2^-9), times the tensor scale.

    Parameters
    ----------
    largest
        float32, any shape: the largest absolute values.
    """
    if rule.scale_format == "E8M0":
        return _power_of_two(largest, rule.number_format)
    scale = largest / rule.number_format.max_code
    if rule.scale_format == "E4M3":
        assert rule.tensor_scale is not None
        stored = (scale / rule.tensor_scale).clamp_(min=_E4M3.unit)
        return round_to_codes_(stored, _E4M3, keep_nan=True).mul_(rule.tensor_scale)
    return _in_format(scale, rule.scale_format)


def _in_format(scale: Tensor, scale_format: str) -> Tensor:
    """A scale in its format, at most its largest number; 1 in place of 0 and subnormals."""
    if scale_format == "float16":
        scale = scale.clamp(max=_LARGEST_FLOAT16).half().float()
    return usable_scale(scale)


def _power_of_two(largest: Tensor, known: NumberFormat) -> Tensor:
    """2^(floor(log2 largest) - floor(log2 max_code)), from the exponent's bits."""
    exponent = (largest.view(torch.int32) >> 23) - 127  # of 0 and subnormals: -127
    exponent.sub_(math.frexp(known.max_code)[1] - 1).clamp_(min=-127)
    bits = torch.where(exponent > -127, (exponent + 127) << 23, 1 << 22)
    return bits.int().view(torch.float32)


def zero_point_scale(low: Tensor, high: Tensor, rule: GroupRule) -> tuple[Tensor, Tensor]:
    """Return scale and zero point for a range that includes 0.

    ``scale = (high - low) / (2^bits - 1)``; the zero point, ``round(-low / scale)``, is the code of
    0 among 0 to 2^bits - 1 (``QuantizeLinear`` of ONNX).

    Parameters
    ----------
    low, high
        float32, any shape; at most and at least 0.

    Examples
    --------
    >>> rule = GroupRule(number_format("INT_8"), None, symmetry="zero_point")
    >>> zero_point_scale(torch.tensor(-1.0), torch.tensor(4.1), rule)
    (tensor(0.0200), tensor(50.))
    """
    levels = _largest_level(rule.number_format)
    span = high - low  # beyond float32 for the largest values of both signs
    scale = torch.where(span.isinf(), high / levels - low / levels, span / levels)
    zero_point = (-low / usable_scale(scale)).round_().clamp_(0, levels)
    return _in_format(scale, rule.scale_format), zero_point


def _largest_level(known: NumberFormat) -> int:
    return (1 << known.bits) - 1


def _round_(quotients: Tensor, zero_point: Tensor | None, known: NumberFormat) -> None:
    """Replace quotients by the nearest codes; with a zero point, by the code minus it."""
    if zero_point is None:
        round_to_codes_(quotients, known, keep_nan=True)
    else:
        levels = _largest_level(known)
        quotients.round_().add_(zero_point).clamp_(0, levels).sub_(zero_point)


def _clipped_count(quotients: Tensor, zero_point: Tensor | None, known: NumberFormat) -> int:
    """Number of quotients beyond the range of the codes."""
    if zero_point is None:
        low, high = torch.aminmax(quotients)
        limit = known.max_code * (1 + CLIPPING_TOLERANCE)
        if max(-float(low), float(high)) <= limit:
            return 0
        return int((quotients.abs() > limit).sum())
    margin = 0.5 + CLIPPING_TOLERANCE * _largest_level(known)
    levels = _largest_level(known)
    shifted = quotients + zero_point
    return int(((shifted < -margin) | (shifted > levels + margin)).sum())
