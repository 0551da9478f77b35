"""Rounding of tensors to the nearest code of a number format, in closed form."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqdb.errors import DataError, UsageError
from ptqdb.quantization.number_formats import NumberFormat

# Per thread: a chunk and its buffer, half a MiB each, stay in the second-level cache, so that a
# tensor moves through memory once and not once for each operation. Half as large, chunks cost a
# tenth more, in calls.
_CHUNK_ELEMENTS = 1 << 17


@dataclass(frozen=True)
class _BitLayout:
    """Where the bits of an IEEE 754 type are, seen as integers of the same size."""

    integer: torch.dtype
    mantissa_bits: int
    exponent_mask: int


_LAYOUTS = {
    torch.float32: _BitLayout(torch.int32, 23, 0x7F80_0000),
    torch.float64: _BitLayout(torch.int64, 52, 0x7FF0_0000_0000_0000),
}


@torch.no_grad()
def round_to_codes_(
    values: Tensor, number_format: NumberFormat, *, keep_nan: bool = False
) -> Tensor:
    """Replace each value, in place, by the nearest code.

    Values past the largest code, infinities too, become the largest code (`max_code`, with
    the sign). Ties go to the code of even magnitude index (for INT an even integer, for FLOAT
    an even mantissa); in POT, 1.5 * 2^i goes to the larger code and half the smallest to 0.
    A zero may carry either sign.

    Parameters
    ----------
    values
        float32 or float64, any shape, strides and device, already divided by the scale.
    keep_nan
        Whether a NaN stays a NaN, as it does in floating point. Otherwise it is refused, which
        takes a pass over the values to look for one.

    Returns
    -------
    Tensor
        `values` itself.

    Raises
    ------
    DataError
        `values` hold a NaN that is not to be kept, or have another dtype; they are left as they
        were.
    UsageError
        The dtype is float32 and cannot hold every code of the format (every format of the
        study's grid fits); `values` are left as they were.

    Examples
    --------
    >>> from ptqdb.quantization.number_formats import number_format
    >>> values = torch.tensor([-9.0, -0.3, 0.25, 2.4, 5.0])
    >>> round_to_codes_(values, number_format("FLOAT_4_E2")).tolist()
    [-6.0, -0.5, 0.0, 2.0, 4.0]
    """
    _refuse_unfit(values, number_format)
    if values.numel() == 0:
        return values
    if not keep_nan:
        _refuse_nan(values.amax())
    buffer = None
    for (chunk,) in _chunks(values):
        buffer = _round_chunk_(chunk, buffer, number_format)
    return values


def round_to_codes(
    values: Tensor, number_format: NumberFormat, *, keep_nan: bool = False
) -> Tensor:
    """Return the nearest code of each value, as `round_to_codes_`, in a new tensor.

    Raises
    ------
    DataError
        `values` hold a NaN that is not to be kept, or have a dtype other than float32 and
        float64.
    UsageError
        The dtype is float32 and cannot hold every code of the format.

    Examples
    --------
    >>> from ptqdb.quantization.number_formats import number_format
    >>> round_to_codes(torch.tensor([0.25, 0.26, 0.75, 7.0]), number_format("POT_3")).tolist()
    [0.25, 0.25, 1.0, 1.0]
    """
    return round_to_codes_(values.detach().clone(), number_format, keep_nan=keep_nan)


@torch.no_grad()
def scaled_codes(
    values: Tensor,
    scale: Tensor,
    number_format: NumberFormat,
    *,
    out: Tensor | None = None,
    keep_nan: bool = False,
) -> Tensor:
    """Return the nearest code of each ``value / scale``, a true division.

    Equal to the bit to dividing first and rounding then, in one pass over memory.

    Parameters
    ----------
    values
        float32 or float64, any shape, strides and device.
    scale
        Of the same dtype and positive; shape () or broadcastable to `values`.
    out
        What the codes are written to, of the shape and dtype of `values`; a new tensor when
        None. One that is kept saves fresh pages, which cost more than the arithmetic.
    keep_nan
        As in `round_to_codes_`.

    Raises
    ------
    DataError
        A quotient is a NaN that is not to be kept, and `out` holds rubbish then; or `values` have
        a dtype other than float32 and float64.
    UsageError
        The dtype is float32 and cannot hold every code of the format.

    Examples
    --------
    >>> from ptqdb.quantization.number_formats import number_format
    >>> scaled_codes(torch.tensor([1.0, 2.5]), torch.tensor(0.5), number_format("INT_4")).tolist()
    [2.0, 5.0]
    """
    if scale.ndim:
        quotients = torch.div(values, scale, out=out)
        return round_to_codes_(quotients, number_format, keep_nan=keep_nan)
    _refuse_unfit(values, number_format)
    codes = torch.empty_like(values) if out is None else out
    if values.numel() == 0:
        return codes
    largest, buffer = [], None
    for chunk, quotients in _chunks(values, codes):
        torch.div(chunk, scale, out=quotients)
        if not keep_nan:
            largest.append(quotients.amax())
        buffer = _round_chunk_(quotients, buffer, number_format)
    if largest:
        _refuse_nan(torch.stack(largest).amax())
    return codes


def _refuse_unfit(values: Tensor, number_format: NumberFormat) -> None:
    if values.dtype not in _LAYOUTS:
        raise DataError(
            f"expected values in float32 or float64, found {values.dtype}; convert them first"
        )
    # 22 of float32's 24 significant bits: _round_to_binades_ needs a sum of value and anchor
    # that stays in the anchor's binade, so the value may be a third of the anchor at most.
    fits = values.dtype == torch.float64 or (
        number_format.significant_bits <= 22
        and number_format.max_code <= torch.finfo(torch.float32).max
        and 2.0**number_format.min_exponent >= torch.finfo(torch.float32).tiny
    )
    if not fits:
        raise UsageError(
            f"expected a format whose codes float32 holds, found {number_format.name}; "
            "convert the values to float64 first"
        )


def _refuse_nan(largest: Tensor) -> None:
    """Refuse values by their maximum, NaN if any is; a sum would take inf - inf for one."""
    if bool(largest.isnan()):
        raise DataError(
            "expected numbers to quantize, found NaN; look for a division by zero or an "
            "overflow where the values come from"
        )


def in_memory_order(values: Tensor) -> Tensor | None:
    """A flat view of consecutive elements; None where strides leave gaps or another order."""
    if values.is_contiguous():
        return values.view(-1)
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).view(-1)
    return None


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views that cover tensors of one shape, each tuple of them the same elements.

    A GPU gets one tuple, for there each call costs a launch.
    """
    flat = [in_memory_order(tensor) for tensor in tensors]
    is_flat = len({tensor.stride() for tensor in tensors}) == 1
    rows = [
        tensor if view is None or not is_flat else view
        for tensor, view in zip(tensors, flat, strict=True)
    ]
    count, step = len(rows[0]), len(rows[0])
    if not rows[0].is_cuda:
        chunk_elements = _CHUNK_ELEMENTS * torch.get_num_threads()
        step = max(1, chunk_elements * count // rows[0].numel())
    for start in range(0, count, step):
        yield tuple(tensor[start : start + step] for tensor in rows)


def _round_chunk_(
    chunk: Tensor, buffer: Tensor | None, number_format: NumberFormat
) -> Tensor | None:
    """Round a chunk in place; return the buffer for the next one, if the family needs any."""
    if number_format.family == "INT":
        chunk.round_().clamp_(-number_format.max_code, number_format.max_code)
        return None
    if buffer is None:
        buffer = torch.empty_like(chunk, dtype=_LAYOUTS[chunk.dtype].integer)
    _round_to_binades_(chunk, buffer[: len(chunk)], number_format)
    return buffer


def _round_to_binades_(chunk: Tensor, buffer: Tensor, number_format: NumberFormat) -> None:
    """Round, in place, to a FLOAT or POT, whose spacing depends on the binade.

    From 2^k up to 2^(k+1) the codes are 2^(k-m) apart, and below the smallest binade they
    stay as far apart as in it (of a POT and of m = 0 only zero is there). Adding 1.5 * 2^k *
    2^(p-m), p being the mantissa bits of the dtype, leaves the last bit of the sum worth
    2^(k-m): the addition itself rounds, ties to even. The subtraction is exact.

    Parameters
    ----------
    chunk
        Shape (n, ...), float32 or float64. A NaN, whose exponent bits are those of infinity,
        becomes NaN + infinity, a NaN again.
    buffer
        The same shape, integers of the same size; overwritten.
    """
    layout = _LAYOUTS[chunk.dtype]
    mbits = number_format.mbits or 0
    chunk.clamp_(-number_format.max_code, number_format.max_code)
    torch.bitwise_and(chunk.view(layout.integer), layout.exponent_mask, out=buffer)
    binade = buffer.view(chunk.dtype).clamp_(min=2.0**number_format.min_exponent)
    if number_format.mbits == 0 and number_format.ebits != 1:
        # Without a mantissa the parity of the index is that of the exponent field, and the
        # tie 1.5 * 2^k must not always go up as in POT. The field of the dtype has the same
        # parity, for both biases are odd (FLOAT_2_E1, whose bias is 0, has no such tie).
        # One unit in the last place less turns the tie down and no other value.
        is_even = (buffer >> layout.mantissa_bits).bitwise_not_().bitwise_and_(1)
        chunk.view(layout.integer).sub_(is_even)
    anchor = 1.5 * 2.0 ** (layout.mantissa_bits - mbits)
    chunk.add_(binade, alpha=anchor).sub_(binade, alpha=anchor)
