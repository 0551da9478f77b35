"""Quantization statistics of layer inputs: sums for all formats at once, batch by batch.

Narrow formats share one sort of the values. The boundary between two codes is found once, by
bisecting the rounding function. The values of a code then form a range of the sorted values, and
their sum is a difference of two partial sums. Wide formats are rounded value by value.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ptqdb.measurement.chunks import map_in_threads, pieces
from ptqdb.measurement.facts import QuantizedTensorFacts
from ptqdb.measurement.tensors import CLIPPING_TOLERANCE, code_sums, sums_as_facts
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.quantization.rounding import scaled_codes
from ptqdb.quantization.scales import compute_scale

# The squared error of a narrow format is a difference of sums: at 8 bits its relative error in
# float64 is about 1e-10, and each further bit costs two binary digits. Above 8 bits there are also
# too many codes to look up.
NARROW_BITS = 8
# Large enough that looking up some 3600 values is cheap compared to sorting, and that threads do
# not wait for the interpreter's lock; small enough for the L3 cache.
SORTED_SIZE = 1 << 18
_LARGEST_FLOAT32_BITS = 0x7F7F_FFFF


def first_values(scale: Tensor, number_format: NumberFormat) -> Tensor:
    """Find the smallest value that rounds to each positive code, by bisecting the rounding.

    Parameters
    ----------
    scale
        float32, shape ().

    Returns
    -------
    Tensor
        float32, one per positive code, ascending; exact to the last bit.
    """
    codes = torch.from_numpy(number_format.magnitudes()).to(scale.device)
    wanted = codes[1:].float()

    def reaches(bits: Tensor) -> Tensor:
        return scaled_codes(bits.view(torch.float32), scale, number_format) >= wanted

    guess = ((codes[:-1] + codes[1:]) / 2 * scale.double()).float().view(torch.int32)
    low = (guess - 8).clamp_(min=0)
    high = (guess + 8).clamp_(max=_LARGEST_FLOAT32_BITS)
    # margin for scales at the ends of float32's range
    low = torch.where(reaches(low), torch.zeros_like(low), low)
    high = torch.where(reaches(high), high, torch.full_like(high, _LARGEST_FLOAT32_BITS))
    while bool((high - low > 1).any()):
        middle = low + (high - low) // 2
        is_reached = reaches(middle)
        low, high = torch.where(is_reached, low, middle), torch.where(is_reached, middle, high)
    return high.view(torch.float32)


class CodedInputs:
    """Accumulates the quantization statistics of a tensor that arrives in batches.

    Parameters
    ----------
    max_abs
        float32, shape (): amax of the tensor, which sets the scale in every format.
    """

    def __init__(self, max_abs: Tensor, number_formats: Sequence[NumberFormat]):
        self._scales = {each: compute_scale(max_abs, each) for each in number_formats}
        self._clipped = dict.fromkeys(number_formats, 0)
        self._wide = [each for each in number_formats if each.bits > NARROW_BITS]
        self._sums = torch.zeros(len(self._wide), 4, dtype=torch.float64, device=max_abs.device)
        self._square_sum = torch.zeros((), dtype=torch.float64, device=max_abs.device)
        self._places: dict[NumberFormat, slice] = {}
        edges = [torch.empty(0, device=max_abs.device)]
        start = 0
        for each in number_formats:
            if each.bits <= NARROW_BITS:
                edges.append(_edges(self._scales[each], each))
                self._places[each] = slice(start, start + len(edges[-1]) - 1)
                start += len(edges[-1])
        self._edges = torch.cat(edges)
        between = max(0, start - 1)
        self._counts = torch.zeros(between, dtype=torch.int64, device=max_abs.device)
        self._value_sums = torch.zeros(between, dtype=torch.float64, device=max_abs.device)

    def add(self, values: Tensor) -> None:
        """Quantize more values, float32 of any shape, in every format."""
        for sums, square_sum, counts, value_sums, clipped in map_in_threads(
            self._of_piece, pieces(values, SORTED_SIZE)
        ):
            self._sums += sums
            self._square_sum += square_sum
            self._counts += counts
            self._value_sums += value_sums
            for number_format, count in clipped.items():
                self._clipped[number_format] += count

    def _of_piece(
        self, piece: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[NumberFormat, int]]:
        ordered = _without_zeros(_sorted(piece))
        exact = ordered.double()
        sums = [
            code_sums(
                scaled_codes(ordered, scale, each, keep_nan=True).double(), exact, float(scale)
            )
            for each, scale in self._scales.items()
            if each.bits > NARROW_BITS
        ]
        partial = torch.cat([exact.new_zeros(1), exact.cumsum(0)])
        places = torch.searchsorted(ordered, self._edges)
        return (
            torch.stack(sums) if sums else self._sums,
            torch.dot(exact, exact),
            places.diff(),
            partial[places].diff(),
            self._clipped_in(ordered),
        )

    def _clipped_in(self, ordered: Tensor) -> dict[NumberFormat, int]:
        """Number of values beyond the largest code, for formats with any."""
        if not len(ordered):
            return {}
        max_abs = max(-float(ordered[0]), float(ordered[-1]))
        limits = {each: each.max_code * (1 + CLIPPING_TOLERANCE) for each in self._scales}
        return {
            each: int(((ordered / scale).abs() > limits[each]).sum())
            for each, scale in self._scales.items()
            if max_abs > limits[each] * float(scale)
        }

    def facts(self, number_format: NumberFormat) -> QuantizedTensorFacts:
        """The facts so far, without a histogram."""
        scale, clipped = float(self._scales[number_format]), self._clipped[number_format]
        if number_format.bits > NARROW_BITS:
            sums = self._sums[self._wide.index(number_format)]
            return sums_as_facts(scale, clipped, sums.tolist())
        magnitudes = number_format.magnitudes()
        codes = np.concatenate([-magnitudes[:0:-1], magnitudes])
        place = self._places[number_format]
        counts = self._counts[place].cpu().numpy()
        code_x = float(codes @ self._value_sums[place].cpu().numpy())
        codes2 = float(codes**2 @ counts)
        error = float(self._square_sum) - 2 * scale * code_x + scale**2 * codes2
        return sums_as_facts(
            scale, clipped, [float(codes @ counts), codes2, code_x, max(0.0, error)]
        )


def _edges(scale: Tensor, number_format: NumberFormat) -> Tensor:
    """Boundaries of the codes, float32 (codes + 1,): values from one to the next share a code."""
    first = first_values(scale, number_format)
    infinity = first.new_full((1,), torch.inf)
    # the rounding is symmetric: the values of a negative code end just past -first
    past = torch.nextafter(-first.flip(0), infinity)
    return torch.cat([-infinity, past, first, infinity])


def _sorted(values: Tensor) -> Tensor:
    """Return a sorted copy of the values."""
    if values.device.type != "cpu":
        return values.sort().values
    # four times as fast as torch's, which also returns indices
    return torch.from_numpy(np.sort(values.numpy()))


def _without_zeros(ordered: Tensor) -> Tensor:
    """Drop zeros, about half of the outputs of a ReLU: they add nothing to the sums."""
    zero = ordered.new_zeros(1)
    low = int(torch.searchsorted(ordered, zero))
    high = int(torch.searchsorted(ordered, zero, right=True))
    return torch.cat([ordered[:low], ordered[high:]])
