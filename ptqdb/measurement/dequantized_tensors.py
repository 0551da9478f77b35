"""Quantization statistics from dequantized values, for schemes with more than one scale."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ptqdb.measurement.chunks import chunk_size, group_chunks, map_in_threads, pieces
from ptqdb.measurement.facts import NO_CODES, Array, DequantizedTensorFacts, TensorFacts
from ptqdb.measurement.softmax_divergence import softmax_divergences, softmax_group_count
from ptqdb.measurement.tensors import LARGEST_BIN, code_sums, histogram
from ptqdb.quantization.group_scaling import Groups
from ptqdb.quantization.input_codes import InputCodes
from ptqdb.quantization.scales import max_abs

LARGEST_VALUE_BIN = 4 * LARGEST_BIN
FLOAT_BITS = 32


def dequantized_facts(
    values: Tensor,
    dequantized: Tensor,
    groups: Groups,
    *,
    with_softmax: bool = True,
    channel_squared_errors: Array | None = None,
) -> DequantizedTensorFacts:
    """Return the facts of a weight or bias, with histogram and softmax divergences.

    Parameters
    ----------
    values, dequantized
        float32 or float64, same shape.
    groups
        The scales of the dequantized tensor.
    with_softmax
        Whether to compute the softmax divergences, which take two thirds of the time.
    channel_squared_errors
        As in `DequantizedTensorFacts`.
    """
    largest = float(max_abs(values))

    def of_chunk(chunk: tuple[Tensor, ...]) -> tuple[list[float], Array]:
        exact, found = (part.reshape(-1).double() for part in chunk)
        square = torch.dot(exact, exact).reshape(1)
        sums = torch.cat([code_sums(found, exact, 1.0), square]).tolist()
        return sums, histogram(found, largest, LARGEST_VALUE_BIN).cpu().numpy()

    counts, sums = np.zeros(2 * LARGEST_VALUE_BIN + 1, dtype=np.int64), []
    for of_values, of_bins in map_in_threads(of_chunk, group_chunks(values, dequantized)):
        sums.append(of_values)
        counts += of_bins
    *found, square = torch.tensor(sums, dtype=torch.float64).sum(0).tolist()
    filled = np.flatnonzero(counts)
    softmax: tuple[float | None, ...] = (None, None, None)
    if with_softmax:
        norm = math.sqrt(found[1])
        factor = math.sqrt(square) / norm if norm > 0 else 1.0
        divergences = softmax_divergences(values, dequantized, [1.0, factor])
        softmax = (*divergences, softmax_group_count(values))
    return _facts(
        groups, found, filled - LARGEST_VALUE_BIN, counts[filled], softmax, channel_squared_errors
    )


def _facts(
    groups: Groups,
    sums: Sequence[float],
    bins: Array = NO_CODES,
    counts: Array = NO_CODES,
    softmax: Sequence[float | None] = (None, None, None),
    channel_squared_errors: Array | None = None,
) -> DequantizedTensorFacts:
    """The facts from the sums of ``code_sums`` with scale 1."""
    scales = groups.scales
    low, high = torch.aminmax(scales) if len(scales) else (None, None)
    sum_y, sum_y2, sum_xy, squared_error_sum = sums
    fakefreeze, l2, group_count = softmax
    return DequantizedTensorFacts(
        len(scales),
        None if low is None else float(low),
        None if high is None else float(high),
        groups.storage_bits,
        groups.clipped_count,
        sum_y,
        sum_y2,
        sum_xy,
        squared_error_sum,
        bins,
        counts,
        fakefreeze,
        l2,
        None if group_count is None else int(group_count),
        channel_squared_errors,
    )


def float_groups(values: Tensor) -> Groups:
    """Return the groups of a tensor that stays in floats: none."""
    return Groups(torch.empty(0), 0, FLOAT_BITS * values.numel())


def unquantized_input_facts(facts: TensorFacts) -> DequantizedTensorFacts:
    """Return the facts of an input that stays in floats, from those of the float tensor."""
    return _facts(Groups(torch.empty(0), 0), [facts.sum_x, facts.sum_x2, facts.sum_x2, 0.0])


class DequantizedInput:
    """Accumulates the quantization statistics of an input that arrives in batches.

    Parameters
    ----------
    codes
        How the input is quantized.
    """

    def __init__(self, codes: InputCodes):
        self._codes = codes
        self._sums = torch.zeros(4, dtype=torch.float64)
        self._scale_count, self._low, self._high = 0, math.inf, -math.inf

    def add(self, inputs: Tensor) -> None:
        """Quantize more inputs, float32."""
        values, scales = self._codes.dequantized(inputs)

        def sums(parts: tuple[Tensor, Tensor]) -> list[float]:
            exact, found = (part.double() for part in parts)
            return code_sums(found, exact, 1.0).tolist()

        both = zip(_flat_pieces(inputs, values), _flat_pieces(values, inputs), strict=True)
        for found in map_in_threads(sums, both):
            self._sums += torch.tensor(found, dtype=torch.float64)
        if len(scales) and (self._codes.is_dynamic or not self._scale_count):
            low, high = torch.aminmax(scales)
            self._low, self._high = min(self._low, float(low)), max(self._high, float(high))
            self._scale_count += len(scales)

    def facts(self) -> DequantizedTensorFacts:
        """The facts so far, without a histogram."""
        limits = torch.tensor([self._low, self._high] if self._scale_count else [])
        facts = _facts(Groups(limits, None), self._sums.tolist())
        return replace(facts, scale_count=self._scale_count)


def _flat_pieces(values: Tensor, other: Tensor) -> tuple[Tensor, ...]:
    """Flat pieces in memory order, if the other tensor has the same order."""
    return (
        pieces(values)
        if values.stride() == other.stride()
        else torch.split(values.reshape(-1), chunk_size(values))
    )
