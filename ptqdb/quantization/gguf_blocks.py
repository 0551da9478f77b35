"""The block formats Q8_0, Q4_0 and Q4_K of GGUF files, with the values that their readers get.

Each block of a row of weights has a float16 scale of its own; in Q4_K that scale is one for eight
sub-blocks, whose own scales and minima are integers of 6 bits. The arithmetic is that of the
reference quantizers of llama.cpp (``quantize_row_q8_0_ref``, ``quantize_row_q4_0_ref`` and
``quantize_row_q4_K_ref`` in ``ggml-quants.c``), in float32 and in their order of summation, so that
results agree to the bit. Blocks shorter than the format's, which llama.cpp refuses, are quantized
by the same rules from the values that they have.

Sources: `GGUF <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>`__; llama.cpp, files
``ggml-common.h`` (layout) and ``ggml-quants.c``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ptqdb.errors import DataError

Q8_0_BLOCK_SIZE = 32
Q4_0_BLOCK_SIZE = 32
Q4_K_BLOCK_SIZE = 256
Q4_K_SUB_BLOCK_SIZE = 32

_LARGEST_Q8_0 = 127
_LARGEST_Q4_K = 15
_LARGEST_6_BIT = 63
# The numbers of levels that Q4_K tries for the range of the values: 14, 14.1, ..., 16.
_TRIED_LEVELS = (
    np.float32(_LARGEST_Q4_K) + (np.float32(0.1) * np.arange(21, dtype=np.float32) - np.float32(1))
).tolist()
# Sub-blocks searched at a time on a CPU; a few arrays of that size stay in its cache.
_CHUNK_SUB_BLOCKS = 4096


@dataclass(frozen=True)
class QuantizedBlocks:
    """Blocks after quantization.

    Attributes
    ----------
    values
        float32, (blocks, block_size): dequantized.
    scales
        float32, not negative: the distance between neighbouring values; (blocks, 1), for Q4_K
        (blocks, sub_blocks). 0 where all values of a block round to one.
    """

    values: Tensor
    scales: Tensor


@dataclass(frozen=True)
class SuperBlocks:
    """Q4_K blocks as stored: a value is ``step * scale * code - min_step * minimum``.

    Attributes
    ----------
    step, min_step
        float16, (blocks, 1).
    scales, minima
        float32 integers from 0 to 63, (blocks, sub_blocks).
    codes
        float32 integers from 0 to 15, (blocks, block_size).
    """

    step: Tensor
    min_step: Tensor
    scales: Tensor
    minima: Tensor
    codes: Tensor

    def dequantize(self) -> QuantizedBlocks:
        """Return the float32 values and the step of each sub-block."""
        steps = self.step.float() * self.scales
        of_element = _spread(steps, self.codes)
        offset = _spread(self.min_step.float() * self.minima, self.codes)
        return QuantizedBlocks(of_element * self.codes - offset, steps)


@torch.no_grad()
def quantize_q8_0(blocks: Tensor) -> QuantizedBlocks:
    """Quantize to the integers from -127 to 127; ties go away from zero.

    The scale, ``amax / 127``, is stored in float16, but the codes are found with its float32
    reciprocal.

    Parameters
    ----------
    blocks
        float32, (blocks, block_size); block_size is 32, or less for a last block.

    Raises
    ------
    DataError
        A value is NaN or infinite, or so large that float16 does not hold the scale.

    Examples
    --------
    >>> blocks = torch.tensor([[0.5, -127.0, 126.4]])
    >>> quantize_q8_0(blocks).values.tolist()
    [[1.0, -127.0, 126.0]]
    """
    _refuse_not_finite(blocks)
    step = _divide(blocks.abs().amax(1, keepdim=True), _LARGEST_Q8_0)
    scaled = blocks * _reciprocal(step)
    whole = scaled.trunc()
    codes = whole + (2 * (scaled - whole)).trunc()
    scale = _in_float16(step).float()
    return QuantizedBlocks(codes * scale, scale)


@torch.no_grad()
def quantize_q4_0(blocks: Tensor) -> QuantizedBlocks:
    """Quantize to the integers from -8 to 7; ties go up.

    The scale maps the value of largest magnitude, the first of several, to -8: its sign is the
    opposite of that value's, and values of the other sign beyond 7 are clipped. It is stored in
    float16, but the codes are found with its float32 reciprocal.

    Parameters
    ----------
    blocks
        float32, (blocks, block_size); block_size is 32, or less for a last block.

    Raises
    ------
    DataError
        A value is NaN or infinite, or so large that float16 does not hold the scale.

    Examples
    --------
    >>> quantize_q4_0(torch.tensor([[8.0, -8.0, 2.4]])).values.tolist()
    [[8.0, -7.0, 2.0]]
    """
    _refuse_not_finite(blocks)
    step = blocks.gather(1, blocks.abs().argmax(1, keepdim=True)) / -8
    codes = (blocks * _reciprocal(step) + 8.5).trunc().clamp_(0, 15) - 8
    scale = _in_float16(step).float()
    return QuantizedBlocks(codes * scale, scale.abs())


@torch.no_grad()
def quantize_q4_k(blocks: Tensor) -> QuantizedBlocks:
    """Quantize to 16 levels in sub-blocks of 32: see `code_q4_k`.

    Examples
    --------
    >>> blocks = torch.linspace(-1, 1, 256).reshape(1, -1)
    >>> found = quantize_q4_k(blocks)
    >>> found.scales.shape, bool((found.values - blocks).abs().max() < 0.04)
    (torch.Size([1, 8]), True)
    """
    return code_q4_k(blocks).dequantize()


@torch.no_grad()
def code_q4_k(blocks: Tensor) -> SuperBlocks:
    """Quantize to Q4_K.

    A search finds scale and minimum of each sub-block (`_search`). The largest of the scales, and
    of the minima, becomes 63; the others are rounded to integers under the same float16 step. The
    codes are then rounded to nearest, ties to even, with scales and minima as stored.

    Parameters
    ----------
    blocks
        float32, (blocks, block_size); block_size is 256, or less for a last block. Sub-blocks have
        32 elements; the last one has the rest.

    Raises
    ------
    DataError
        A value is NaN or infinite, or so large that float16 does not hold the scale.
    """
    _refuse_not_finite(blocks)
    count, size = blocks.shape
    # Repeats of an element do not change minimum and maximum, and weigh nothing in the sums.
    missing = -size % Q4_K_SUB_BLOCK_SIZE
    padded = torch.cat([blocks, blocks[:, -1:].expand(-1, missing)], 1)
    is_given = torch.arange(padded.shape[1], device=blocks.device) < size
    is_given = is_given.expand(count, -1).reshape(-1, Q4_K_SUB_BLOCK_SIZE)
    sub_blocks = padded.reshape(-1, Q4_K_SUB_BLOCK_SIZE)
    chunk = len(sub_blocks) if blocks.is_cuda else _CHUNK_SUB_BLOCKS
    parts = [
        _search(values.T.contiguous(), given.T.contiguous())
        for values, given in zip(
            torch.split(sub_blocks, chunk), torch.split(is_given, chunk), strict=True
        )
    ]
    scales, minima = (torch.cat(part).reshape(count, -1) for part in zip(*parts, strict=True))
    step, scales = _to_6_bits(scales)
    min_step, minima = _to_6_bits(minima)
    of_element = _spread(step.float() * scales, blocks)
    offset = _spread(min_step.float() * minima, blocks)
    codes = ((blocks + offset) / of_element).round_().clamp_(0, _LARGEST_Q4_K)
    codes = torch.where(of_element == 0, 0, codes)
    return SuperBlocks(step, min_step, scales, minima, codes)


def _search(values: Tensor, is_given: Tensor) -> tuple[Tensor, Tensor]:
    """Find the scale and the minimum of sub-blocks, such that a value is scale x code - minimum.

    The range from the smallest value, or 0 if that is smaller, to the largest is divided into 15
    levels, and then into 14, 14.1 and so on up to 16, which gives codes. Scale and minimum of least
    weighted squared error for given codes have a closed form. The pair of least error wins, the
    first of several; the ranges tried after a better pair begin at its minimum. The weight of a
    value is its magnitude plus the root mean square of the sub-block.

    Parameters
    ----------
    values
        float32, (elements, sub_blocks).
    is_given
        Boolean, same shape: which of them count.

    Returns
    -------
    tuple[Tensor, Tensor]
        float32, (sub_blocks,): the scale, and minus the smallest value, which is not negative.
    """
    given_count = is_given.sum(0)
    mean_square = _sum((values * values).where(is_given, 0)) / given_count
    # In float64, since torch rounds float32 square roots to one of the two neighbours.
    root_mean_square = mean_square.double().sqrt().float()
    weights = (root_mean_square + values.abs()).where(is_given, 0)
    all_weights, weighted = _sum(weights), _sum(weights * values)
    low, high = values.amin(0).clamp_(max=0), values.amax(0)
    inverse = _divide(_LARGEST_Q4_K, high - low)
    # Without a range, or if float32 has no reciprocal for it, every value is the smallest. What the
    # search finds there, NaN or not, is dropped.
    is_flat = inverse.isinf()
    scale, smallest = _divide(1, inverse), low
    least = _weighted_error(values, weights, _levels(values, low, inverse), scale, low)
    for level_count in _TRIED_LEVELS:
        codes = _levels(values, smallest, _divide(level_count, high - smallest))
        of_codes = weights * codes
        sum_c, sum_cc, sum_cx = _sum(of_codes), _sum(of_codes * codes), _sum(of_codes * values)
        determinant = all_weights * sum_cc - sum_c * sum_c
        tried_scale = (all_weights * sum_cx - weighted * sum_c) / determinant
        tried_smallest = (sum_cc * weighted - sum_c * sum_cx) / determinant
        is_above_zero = tried_smallest > 0
        tried_scale = torch.where(is_above_zero, sum_cx / sum_cc, tried_scale)
        tried_smallest = torch.where(is_above_zero, 0, tried_smallest)
        error = _weighted_error(values, weights, codes, tried_scale, tried_smallest)
        is_better = (determinant > 0) & (error < least)
        least = torch.where(is_better, error, least)
        scale = torch.where(is_better, tried_scale, scale)
        smallest = torch.where(is_better, tried_smallest, smallest)
    return torch.where(is_flat, 0, scale), -torch.where(is_flat, low, smallest)


def _levels(values: Tensor, smallest: Tensor, inverse: Tensor) -> Tensor:
    """Codes of values: their distance from the smallest, times the inverse of the scale."""
    return ((values - smallest) * inverse).round_().clamp_(0, _LARGEST_Q4_K)


def _weighted_error(
    values: Tensor, weights: Tensor, codes: Tensor, scale: Tensor, smallest: Tensor
) -> Tensor:
    difference = scale * codes + smallest - values
    return _sum(weights * (difference * difference))


def _sum(rows: Tensor) -> Tensor:
    """Add rows in their order: float32 sums depend on it, and so may the choice by least error."""
    first, *others = rows.unbind()
    total = first.clone()
    for row in others:
        total += row
    return total


def _to_6_bits(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float16 step of each row and its values in such steps; the largest is 63."""
    largest = values.amax(1, keepdim=True).clamp_(min=0)
    codes = (
        (values * _finite_or_zero(_divide(_LARGEST_6_BIT, largest)))
        .round_()
        .clamp_(0, _LARGEST_6_BIT)
    )
    return _in_float16(_divide(largest, _LARGEST_6_BIT)), codes


def _spread(of_sub_blocks: Tensor, elements: Tensor) -> Tensor:
    """Repeat what sub-blocks have for each of their elements."""
    return of_sub_blocks.repeat_interleave(Q4_K_SUB_BLOCK_SIZE, 1)[:, : elements.shape[1]]


def _reciprocal(step: Tensor) -> Tensor:
    """1 / step; 0 if float32 does not hold it: float16 then rounds the step to 0 anyway."""
    return _finite_or_zero(_divide(1, step))


def _divide(dividend: Tensor | float, divisor: Tensor | float) -> Tensor:
    """Divide and round once: of a number by a tensor, or on a GPU by a number, torch rounds twice.

    It multiplies by the reciprocal.
    """
    tensor = dividend if isinstance(dividend, Tensor) else divisor
    assert isinstance(tensor, Tensor)
    top, bottom = (torch.as_tensor(each).to(tensor) for each in (dividend, divisor))
    return torch.div(top, bottom)


def _finite_or_zero(values: Tensor) -> Tensor:
    return torch.where(values.isfinite(), values, 0)


def _in_float16(scale: Tensor) -> Tensor:
    rounded = scale.half()
    if not bool(rounded.isfinite().all()):
        raise DataError(
            f"expected weights whose scale float16 holds, found a scale of {scale.abs().max():g}, "
            "above 65504; choose a format with float32 scales"
        )
    return rounded


def _refuse_not_finite(blocks: Tensor) -> None:
    if not bool(blocks.isfinite().all()):
        raise DataError(
            "expected finite weights, found NaN or infinity; check the checkpoint, or the "
            "training that produced it"
        )
