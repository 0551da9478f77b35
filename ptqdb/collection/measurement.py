"""Sums, histograms and divergences of tensors, in float64 and in pieces that stay in the cache."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ptqdb.collection.facts import NO_CODES, ChannelFacts, QuantizedTensorFacts, TensorFacts
from ptqdb.number_formats import NumberFormat
from ptqdb.quantization.layers import CodedTensor
from ptqdb.quantization.rounding import round_to_codes_

LARGEST_BIN = 2047
BIN_COUNT = 2 * LARGEST_BIN + 1
PIECE_SIZE = 1 << 17
CLIPPING_TOLERANCE = 2.0**-20


def pieces(values: Tensor) -> Iterator[Tensor]:
    """Flat views of consecutive elements in memory order."""
    memory_format = torch.channels_last
    if values.ndim == 4 and values.is_contiguous(memory_format=memory_format):
        values = values.permute(0, 2, 3, 1)
    return iter(torch.split(values.reshape(-1), PIECE_SIZE))


class TensorMeasurement:
    """Adds up a tensor's facts piece by piece, once its largest absolute value is known.

    Parameters
    ----------
    max_abs
        The range that the histogram spans.
    """

    def __init__(self, max_abs: float, device: torch.device):
        self._max_abs = max_abs
        self._sums = torch.zeros(5, dtype=torch.float64, device=device)
        self._histogram = torch.zeros(BIN_COUNT, dtype=torch.int64, device=device)
        self._element_count = 0
        self._min, self._max = math.inf, -math.inf

    def add(self, values: Tensor) -> None:
        """Count further elements, float32 of any shape."""
        for piece in pieces(values):
            if not piece.numel():
                continue
            exact = piece.double()
            magnitude, square = exact.abs(), exact.square()
            self._sums += torch.stack(
                [
                    exact.sum(),
                    magnitude.sum(),
                    square.sum(),
                    torch.dot(square, exact),
                    torch.dot(square, square),
                ]
            )
            self._histogram += histogram(exact, self._max_abs)
            self._element_count += piece.numel()
            low, high = torch.aminmax(piece)
            self._min, self._max = min(self._min, float(low)), max(self._max, float(high))

    def facts(self) -> TensorFacts:
        """What was added so far."""
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


def histogram(values: Tensor, max_abs: float) -> Tensor:
    """int64 counts, (4095,), of ``round(x * 2047 / max_abs)``, ties toward zero.

    Parameters
    ----------
    values
        float64, flat, within ``±max_abs``.
    """
    if max_abs == 0:
        bins = torch.zeros_like(values, dtype=torch.int64)
    else:
        scaled = values * LARGEST_BIN / max_abs
        bins = (scaled.abs() - 0.5).ceil_().copysign_(scaled).long()
    return torch.bincount(bins + LARGEST_BIN, minlength=BIN_COUNT)


def tensor_facts(values: Tensor) -> TensorFacts:
    """The facts of a tensor that is at hand as a whole."""
    measurement = TensorMeasurement(float(values.abs().amax()), values.device)
    measurement.add(values)
    return measurement.facts()


def channel_facts(weight: Tensor) -> ChannelFacts:
    """Range and sum of squares of each row: the weight by output channel."""
    rows = weight.double()
    low, high = torch.aminmax(rows, dim=1)
    return ChannelFacts(
        low.cpu().numpy(), high.cpu().numpy(), rows.square().sum(dim=1).cpu().numpy()
    )


class CodedMeasurement:
    """Adds up what a format does to a tensor, piece by piece.

    Parameters
    ----------
    scale
        float64, shape ().
    """

    def __init__(self, scale: float, number_format: NumberFormat, device: torch.device):
        self._scale, self._number_format = scale, number_format
        self._float_scale = torch.tensor(scale, dtype=torch.float32, device=device)
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self._clipped = torch.zeros((), dtype=torch.int64, device=device)
        self._limit = number_format.max_code * (1 + CLIPPING_TOLERANCE)

    def add(self, piece: Tensor, exact: Tensor, max_abs: float) -> None:
        """Quantize a flat float32 piece and add its sums.

        Parameters
        ----------
        exact
            The same in float64.
        max_abs
            Its largest absolute value: where that is not clipped, nothing is.
        """
        codes = piece / self._float_scale
        if max_abs > self._limit * self._scale:
            self._clipped += (codes.abs() > self._limit).sum()
        self.add_codes(round_to_codes_(codes, self._number_format).double(), exact)

    def add_codes(self, codes: Tensor, exact: Tensor) -> None:
        """Add the sums of flat float64 codes of the given float64 values."""
        error = codes * self._scale - exact
        self._sums += torch.stack(
            [codes.sum(), torch.dot(codes, codes), torch.dot(codes, exact), torch.dot(error, error)]
        )

    def facts(self) -> QuantizedTensorFacts:
        """What was added so far, without a histogram."""
        sum_codes, sum_codes2, sum_code_x, squared_error_sum = self._sums.tolist()
        return QuantizedTensorFacts(
            scale=self._scale,
            clipped_count=int(self._clipped),
            sum_codes=sum_codes,
            sum_codes2=sum_codes2,
            sum_code_x=sum_code_x,
            squared_error_sum=squared_error_sum,
            codes=NO_CODES,
            code_counts=NO_CODES,
        )


def coded_tensor_facts(
    values: Tensor, coded: CodedTensor, number_format: NumberFormat, *, is_weight: bool
) -> QuantizedTensorFacts:
    """The facts of a weight or bias in a format, with histogram and softmax divergences.

    Parameters
    ----------
    values
        The float32 tensor.
    coded
        Its codes; one scale for the whole tensor.
    number_format
        That of the codes: for a bias, the format of its family's biases.
    """
    scale = float(coded.scale)
    measurement = CodedMeasurement(scale, number_format, values.device)
    clipped = 0
    limit = number_format.max_code * scale * (1 + CLIPPING_TOLERANCE)
    for piece, codes in zip(pieces(values), pieces(coded.codes), strict=True):
        exact = piece.double()
        measurement.add_codes(codes.double(), exact)
        clipped += int((exact.abs() > limit).sum())
    facts = measurement.facts()
    codes_found, counts = code_counts(coded.codes, number_format, binned=is_weight)
    exact = values.double()
    norm = math.sqrt(float(exact.square().sum()))
    code_norm = math.sqrt(facts.sum_codes2)
    factor = norm / code_norm if code_norm > 0 else scale
    return replace(
        facts,
        clipped_count=clipped,
        codes=codes_found,
        code_counts=counts,
        softmax_js_fakefreeze=softmax_divergence(exact, coded.codes.double() * scale),
        softmax_js_l2=softmax_divergence(exact, coded.codes.double() * factor),
        softmax_group_count=softmax_group_count(values),
    )


def code_counts(
    codes: Tensor, number_format: NumberFormat, *, binned: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The codes that occur, ascending, and their counts.

    Parameters
    ----------
    binned
        Codes of formats with more than 4095 of them become the centres of 4095 bins over
        ``±max_code``, ``bin * max_code / 2047``.
    """
    flat = codes.reshape(-1).double()
    if binned and number_format.code_count > BIN_COUNT:
        counts = histogram(flat, number_format.max_code).cpu().numpy()
        filled = np.flatnonzero(counts)
        centres = (filled - LARGEST_BIN) * number_format.max_code / LARGEST_BIN
        return centres, counts[filled]
    if number_format.family == "INT" and number_format.code_count <= BIN_COUNT:
        largest = int(number_format.max_code)
        counts = torch.bincount(flat.long() + largest, minlength=2 * largest + 1).cpu().numpy()
        filled = np.flatnonzero(counts)
        return (filled - largest).astype(np.float64), counts[filled]
    found, counts_found = torch.unique(flat + 0.0, return_counts=True)
    return found.cpu().numpy(), counts_found.cpu().numpy()


def softmax_group_count(values: Tensor) -> int:
    """Over how many groups the softmax is taken: dimension 1, or 0 of a vector."""
    return values.numel() // values.shape[_softmax_dim(values)]


def _softmax_dim(values: Tensor) -> int:
    return min(values.ndim - 1, 1)


def softmax_divergence(values: Tensor, dequantized: Tensor) -> float:
    """Jensen-Shannon divergence of paired softmaxes, in bits, summed over the groups.

    Parameters
    ----------
    values, dequantized
        float64, of one shape; the softmax runs over dimension 1, or 0 of a vector.
    """
    dim = _softmax_dim(values)
    log_p = torch.log_softmax(values, dim)
    log_q = torch.log_softmax(dequantized, dim)
    p, q = log_p.exp(), log_q.exp()
    log_m = ((p + q) * 0.5).log_()
    divergence = p.mul_(log_p.sub_(log_m)).add_(q.mul_(log_q.sub_(log_m))).sum(dim)
    return float(divergence.clamp_(min=0).sum()) / (2 * math.log(2))
