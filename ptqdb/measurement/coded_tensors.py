"""Quantization statistics of a whole tensor in memory: a weight or a bias."""

import functools
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ptqdb.measurement.chunks import group_chunks, map_in_threads, pieces
from ptqdb.measurement.facts import Array, QuantizedTensorFacts
from ptqdb.measurement.softmax_divergence import softmax_divergences, softmax_group_count
from ptqdb.measurement.tensors import (
    BIN_COUNT,
    CLIPPING_TOLERANCE,
    LARGEST_BIN,
    code_sums,
    histogram,
    sums_as_facts,
)
from ptqdb.quantization.codes import CodedTensor
from ptqdb.quantization.number_formats import NumberFormat

FLOAT32_MANTISSA_BITS = 23


def coded_tensor_facts(
    values: Tensor,
    coded: CodedTensor,
    number_format: NumberFormat,
    *,
    is_weight: bool,
    with_softmax: bool = True,
) -> QuantizedTensorFacts:
    """Return the facts of a weight or bias in a format, with histogram and softmax divergences.

    Parameters
    ----------
    values
        The float32 tensor.
    coded
        Its codes; one scale for the whole tensor.
    number_format
        The format of the codes: for a bias, the bias format of the family.
    with_softmax
        Whether to compute the softmax divergences, which take two thirds of the time.
    """
    scale = float(coded.scale)
    limit = number_format.max_code * scale * (1 + CLIPPING_TOLERANCE)

    def of_chunk(chunk: tuple[Tensor, ...]) -> tuple[list[float], int]:
        exact, codes = (part.reshape(-1).double() for part in chunk)
        low, high = torch.aminmax(exact)
        is_clipped = max(-float(low), float(high)) > limit
        clipped = int((exact.abs() > limit).sum()) if is_clipped else 0
        square = torch.dot(exact, exact).reshape(1)
        return torch.cat([code_sums(codes, exact, scale), square]).tolist(), clipped

    found = list(map_in_threads(of_chunk, group_chunks(values, coded.codes)))
    *sums, square = torch.tensor([sums for sums, _ in found], dtype=torch.float64).sum(0).tolist()
    facts = sums_as_facts(scale, sum(clipped for _, clipped in found), sums)
    codes, counts = code_counts(coded.codes, number_format, binned=is_weight)
    facts = replace(facts, codes=codes, code_counts=counts)
    if not with_softmax:
        return facts
    code_norm = math.sqrt(facts.sum_codes2)
    factor = math.sqrt(square) / code_norm if code_norm > 0 else scale
    fakefreeze, l2 = softmax_divergences(values, coded.codes, [scale, factor])
    return replace(
        facts,
        softmax_js_fakefreeze=fakefreeze,
        softmax_js_l2=l2,
        softmax_group_count=softmax_group_count(values),
    )


def code_counts(codes: Tensor, number_format: NumberFormat, *, binned: bool) -> tuple[Array, Array]:
    """Return the codes that occur, ascending, and their counts.

    Parameters
    ----------
    binned
        For formats with more than 4095 codes, count in 4095 bins over ``±max_code`` with the
        centres ``bin * max_code / 2047``.
    """
    if number_format.code_count <= BIN_COUNT and codes.dtype == torch.float32:
        return _counted_by_index(codes, number_format)
    if binned and number_format.code_count > BIN_COUNT:
        counts = _total(
            histogram(piece.double(), number_format.max_code) for piece in pieces(codes)
        )
        filled = np.flatnonzero(counts)
        centres = (filled - LARGEST_BIN) * number_format.max_code / LARGEST_BIN
        return centres, counts[filled]
    found, counts_found = torch.unique(codes.reshape(-1).double() + 0.0, return_counts=True)
    return found.cpu().numpy(), counts_found.cpu().numpy()


def _counted_by_index(codes: Tensor, number_format: NumberFormat) -> tuple[Array, Array]:
    """Count float32 codes by an ordered index, without sorting."""
    index = _CodeIndex(number_format)

    length = 2 * index.largest + 1
    counts = _total(
        torch.bincount(index.of(piece).add_(index.largest), minlength=length)
        for piece in pieces(codes)
    )
    filled = np.flatnonzero(counts)
    return index.codes(filled - index.largest), counts[filled]


def _total(counts_of_pieces: Iterable[Tensor]) -> Array:
    """Sum the counts of all pieces as they arrive: each may be longer than a piece."""
    total: Array = functools.reduce(Tensor.add_, counts_of_pieces).cpu().numpy()
    return total


class _CodeIndex:
    """Numbers a format's float32 codes in order: code 0 has number 0, the sign is kept.

    For INT the number is the code. In the other families it is the bit pattern of the float32
    without the mantissa bits that are always zero, counted from the smallest code; some numbers
    among the subnormal codes are unused.
    """

    def __init__(self, number_format: NumberFormat):
        self._is_integer = number_format.family == "INT"
        mbits = number_format.mbits or 0
        self._shift = FLOAT32_MANTISSA_BITS - mbits
        smallest, largest = (
            int(np.float32(code).view(np.int32)) >> self._shift
            for code in (2.0 ** (number_format.min_exponent - mbits), number_format.max_code)
        )
        self._offset = smallest - 1
        self.largest = int(number_format.max_code) if self._is_integer else largest - self._offset

    def of(self, codes: Tensor) -> Tensor:
        """Return the int32 numbers of float32 codes, same shape; both zeros have 0."""
        if self._is_integer:
            return codes.int()
        bits = codes.view(torch.int32)
        magnitude = (bits & 0x7FFF_FFFF).bitwise_right_shift_(self._shift)
        magnitude.sub_(self._offset).clamp_(min=0)
        sign = bits >> 31  # 0, or -1 (all bits set): x ^ -1 is -x - 1
        return magnitude.bitwise_xor_(sign).sub_(sign)

    def codes(self, numbers: Array) -> Array:
        """Return the float64 codes of these numbers."""
        if self._is_integer:
            return numbers.astype(np.float64)
        bits = (np.abs(numbers) + self._offset).astype(np.int32) << self._shift
        magnitudes = np.where(numbers == 0, 0.0, bits.view(np.float32).astype(np.float64))
        return np.sign(numbers) * magnitudes
