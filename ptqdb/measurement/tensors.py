"""Sums, histograms and divergences of tensors, in float64, in pieces that fit the cache."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ptqdb.measurement.chunks import chunk_size, map_in_threads, pieces
from ptqdb.measurement.facts import (
    NO_CODES,
    Array,
    ChannelFacts,
    QuantizedTensorFacts,
    TensorFacts,
)

LARGEST_BIN = 2047
BIN_COUNT = 2 * LARGEST_BIN + 1
CLIPPING_TOLERANCE = 2.0**-20


class TensorMeasurement:
    """Accumulates a tensor's facts piece by piece, given its amax.

    Parameters
    ----------
    max_abs
        The range of the histogram is ``±max_abs``.
    """

    def __init__(self, max_abs: float, device: torch.device):
        self._max_abs = max_abs
        self._sums = torch.zeros(5, dtype=torch.float64, device=device)
        self._histogram = torch.zeros(BIN_COUNT, dtype=torch.int64, device=device)
        self._element_count = 0
        self._min, self._max = math.inf, -math.inf

    def add(self, values: Tensor) -> None:
        """Add elements, float32 of any shape."""
        if not values.numel():
            return
        for sums, counts, low, high in map_in_threads(self._of_piece, pieces(values)):
            self._sums += sums
            self._histogram += counts
            self._min, self._max = min(self._min, low), max(self._max, high)
        self._element_count += values.numel()

    def _of_piece(self, piece: Tensor) -> tuple[Tensor, Tensor, float, float]:
        exact = piece.double()
        square = exact.square()
        sums = torch.stack(
            [
                exact.sum(),
                exact.abs().sum(),
                square.sum(),
                torch.dot(square, exact),
                torch.dot(square, square),
            ]
        )
        low, high = torch.aminmax(piece)
        return sums, histogram(exact, self._max_abs), float(low), float(high)

    @property
    def histogram(self) -> Tensor:
        """The counts so far, int64, (4095,)."""
        return self._histogram

    def facts(self) -> TensorFacts:
        """The facts so far."""
        counts = self._histogram.cpu().numpy()
        filled = np.flatnonzero(counts)
        sum_x, sum_abs, sum_x2, sum_x3, sum_x4 = self._sums.tolist()
        return TensorFacts(
            element_count=self._element_count,
            min_value=self._min,
            max_value=self._max,
            sum_x=sum_x,
            sum_abs=sum_abs,
            sum_x2=sum_x2,
            sum_x3=sum_x3,
            sum_x4=sum_x4,
            bins=filled - LARGEST_BIN,
            counts=counts[filled],
        )


def histogram(values: Tensor, max_abs: float, largest_bin: int = LARGEST_BIN) -> Tensor:
    """Return int64 counts of ``round(x * 2047 / max_abs)``, ties toward zero.

    Parameters
    ----------
    values
        float64, flat. Those beyond the largest bin count in it.
    largest_bin
        The bins go from minus this to this: (2 * largest_bin + 1,).
    """
    if max_abs == 0:
        bins = torch.zeros_like(values, dtype=torch.int64)
    else:
        scaled = values * LARGEST_BIN / max_abs
        bins = (scaled.abs() - 0.5).ceil_().copysign_(scaled)
        if largest_bin != LARGEST_BIN:
            bins.clamp_(-largest_bin, largest_bin)
        bins = bins.long()
    return torch.bincount(bins + largest_bin, minlength=2 * largest_bin + 1)


def tensor_facts(values: Tensor) -> TensorFacts:
    """Return the facts of a whole tensor."""
    measurement = TensorMeasurement(
        float(torch.stack(torch.aminmax(values)).abs().amax()), values.device
    )
    measurement.add(values)
    return measurement.facts()


def channel_facts(weight: Tensor) -> ChannelFacts:
    """Return amax and sum of squares of each row of a weight by output channel."""
    low, high = torch.aminmax(weight, dim=1)
    squares = _by_row(lambda rows: weight[rows].double().square(), weight)
    return ChannelFacts(low.double().cpu().numpy(), high.double().cpu().numpy(), squares)


def channel_squared_errors(weight: Tensor, codes: Tensor, scale: float) -> Array:
    """Return the sum of ``(code * scale - x)²`` per row (output channel), float64 (rows,).

    Parameters
    ----------
    weight, codes
        float32, (out_channels, elements per channel).
    """

    def squared_errors(rows: slice) -> Tensor:
        return torch.sub(weight[rows].double(), codes[rows].double(), alpha=scale).square_()

    return _by_row(squared_errors, weight)


def _by_row(values: Callable[[slice], Tensor], rows: Tensor) -> Array:
    """Sum each row of the values computed from chunks of rows of a tensor: float64, (rows,)."""
    sums = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    step = max(1, chunk_size(rows) // max(1, rows.shape[1]))

    def of_chunk(start: int) -> None:
        chunk = slice(start, start + step)
        sums[chunk] = values(chunk).sum(dim=1)

    for _ in map_in_threads(of_chunk, range(0, len(rows), step)):
        pass
    found: Array = sums.cpu().numpy()
    return found


def code_sums(codes: Tensor, exact: Tensor, scale: float) -> Tensor:
    """Return the sums for `sums_as_facts`, float64 (4,), of flat float64 codes and values."""
    error = torch.sub(exact, codes, alpha=scale)
    return torch.stack(
        [codes.sum(), torch.dot(codes, codes), torch.dot(codes, exact), torch.dot(error, error)]
    )


def sums_as_facts(scale: float, clipped_count: int, sums: Sequence[float]) -> QuantizedTensorFacts:
    """Return the facts, without a histogram, from the sums of `code_sums`."""
    sum_codes, sum_codes2, sum_code_x, squared_error_sum = sums
    return QuantizedTensorFacts(
        scale=scale,
        clipped_count=clipped_count,
        sum_codes=sum_codes,
        sum_codes2=sum_codes2,
        sum_code_x=sum_code_x,
        squared_error_sum=squared_error_sum,
        codes=NO_CODES,
        code_counts=NO_CODES,
    )
