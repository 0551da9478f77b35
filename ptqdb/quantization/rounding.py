"""Closed-form rounding of tensors to the nearest code of a number format."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqdb.errors import DataError, UsageError
from ptqdb.quantization.number_formats import NumberFormat

# Per thread: a chunk and its buffer, half a MiB each, stay in the L2 cache, so a tensor passes
# through memory once, not once per operation. Chunks of half the size cost 10 % more, due to calls.
CHUNK_ELEMENTS = 1 << 19

ZERO_BYTE = 128
"""The byte of code 0: see `byte_codes`."""
# Added to an integer up to 127 in float32, rounds it to even and makes its last byte the integer's.
_BYTE_ANCHOR = torch.tensor(1.5 * 2.0**23 + ZERO_BYTE)


@dataclass(frozen=True)
class _BitLayout:
    """Bit layout of an IEEE 754 type, viewed as an integer of the same size."""

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

    Values beyond the largest code, including infinities, saturate to it (`max_code`, with the
    sign). Ties go to the code of even magnitude index (for INT an even integer, for FLOAT an even
    mantissa); in POT, 1.5 * 2^i goes to the larger code and half the smallest to 0; in NF they go
    to the smaller code. Zero may have either sign.

    Parameters
    ----------
    values
        float32 or float64, any shape, strides and device; already divided by the scale.
    keep_nan
        Whether NaN stays NaN, as in floating point. Otherwise NaN raises, which takes an extra pass
        over the values.

    Returns
    -------
    Tensor
        `values` itself.

    Raises
    ------
    DataError
        `values` contain NaN without `keep_nan`, or have another dtype; they stay unchanged.
    UsageError
        The dtype is float32 and cannot hold every code of the format (every format of the study's
        grid fits); `values` stay unchanged.

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

    Bit-identical to division followed by rounding, in one pass over memory.

    Parameters
    ----------
    values
        float32 or float64, any shape, strides and device.
    scale
        Of the same dtype and positive; shape () or broadcastable to `values`.
    out
        Output for the codes, with the shape and dtype of `values`; None: a new tensor. Reusing one
        avoids new memory pages, which cost more than the arithmetic.
    keep_nan
        As in `round_to_codes_`.

    Raises
    ------
    DataError
        A quotient is NaN without `keep_nan` (`out` is then undefined), or `values` have a dtype
        other than float32 and float64.
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


@torch.no_grad()
def byte_codes(
    values: Tensor,
    scale: Tensor,
    number_format: NumberFormat,
    zero_point: int | None = None,
) -> Tensor | None:
    """Return `scaled_codes` in units of ``number_format.unit``, plus 128, one byte each.

    Parameters
    ----------
    values
        float32, any shape and strides, on the CPU.
    scale
        float32, shape (), positive.
    number_format
        One that ``fits_bytes``.
    zero_point
        The byte of 0, instead of 128, among all bytes up to 2^bits - 1; only for integers.

    Returns
    -------
    Tensor | None
        uint8 of the same shape and strides, from 1 to 255 (with a zero point, from 0); None if a
        value is NaN: it has no code.

    Examples
    --------
    >>> from ptqdb.quantization.number_formats import number_format
    >>> byte_codes(torch.tensor([1.0, -9.0]), torch.tensor(0.5), number_format("INT_4")).tolist()
    [130, 121]
    """
    codes = torch.empty_like(values, dtype=torch.uint8)
    if not values.numel():
        return codes
    is_uniform = number_format.family == "INT" or number_format.ebits == 1
    low, high = -number_format.max_code, number_format.max_code
    if zero_point is not None:
        low, high = -zero_point, (1 << number_format.bits) - 1 - zero_point
    per_unit = 1 / number_format.unit
    quotients, buffer, largest = None, None, []
    for chunk, bytes_ in _chunks(values, codes):
        if quotients is None:
            quotients = torch.empty_like(chunk)
        found = torch.div(chunk, scale, out=quotients[: len(chunk)])
        if zero_point is not None:
            largest.append(found.amax())
        if is_uniform:
            found.clamp_(low, high)
        else:
            buffer = _round_chunk_(found, buffer, number_format)
        # the last byte of the sum is the byte: of NaN it is 0
        torch.add(_BYTE_ANCHOR, found, alpha=per_unit, out=found)
        bytes_.copy_(found.view(torch.int32))
    if zero_point is None:
        return None if int(codes.amin()) == 0 else codes
    if bool(torch.stack(largest).isnan().any()):
        return None
    return codes.add_((zero_point - ZERO_BYTE) % 256)  # bytes wrap around


def _refuse_unfit(values: Tensor, number_format: NumberFormat) -> None:
    if values.dtype not in _LAYOUTS:
        raise DataError(
            f"expected values in float32 or float64, found {values.dtype}; convert them first"
        )
    # 22 of float32's 24 significant bits: _round_to_binades_ needs the sum of value and anchor to
    # stay in the anchor's binade, so the value may be at most a third of the anchor.
    # The codes of NF are float32 numbers and found by comparison.
    fits = number_format.family == "NF" or values.dtype == torch.float64
    fits = fits or (
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
    """Raise if the maximum is NaN, as it is if any value is; in a sum, inf - inf would be NaN."""
    if bool(largest.isnan()):
        raise DataError(
            "expected numbers to quantize, found NaN; check for a division by zero or an "
            "overflow in their computation"
        )


def in_memory_order(values: Tensor) -> Tensor | None:
    """Return a flat view of consecutive elements; None if strides leave gaps or reorder them."""
    if values.is_contiguous():
        return values.view(-1)
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).view(-1)
    return None


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tuples of views that cover tensors of one shape, with matching elements.

    On a GPU there is one tuple, since each call costs a kernel launch.
    """
    flat = [in_memory_order(tensor) for tensor in tensors]
    is_flat = len({tensor.stride() for tensor in tensors}) == 1
    rows = [
        tensor if view is None or not is_flat else view
        for tensor, view in zip(tensors, flat, strict=True)
    ]
    count, step = len(rows[0]), len(rows[0])
    if not rows[0].is_cuda:
        chunk_elements = CHUNK_ELEMENTS * torch.get_num_threads()
        step = max(1, chunk_elements * count // rows[0].numel())
    for start in range(0, count, step):
        yield tuple(tensor[start : start + step] for tensor in rows)


def _round_chunk_(
    chunk: Tensor, buffer: Tensor | None, number_format: NumberFormat
) -> Tensor | None:
    """Round a chunk in place; return the buffer for the next one, if the family needs one."""
    if number_format.family == "INT":
        chunk.round_().clamp_(-number_format.max_code, number_format.max_code)
        return None
    if number_format.family == "NF":
        _round_to_codebook_(chunk, number_format)
        return None
    if buffer is None:
        buffer = torch.empty_like(chunk, dtype=_LAYOUTS[chunk.dtype].integer)
    _round_to_binades_(chunk, buffer[: len(chunk)], number_format)
    return buffer


def _round_to_binades_(chunk: Tensor, buffer: Tensor, number_format: NumberFormat) -> None:
    """Round in place to a FLOAT or POT, whose spacing depends on the binade.

    From 2^k to 2^(k+1) the codes are 2^(k-m) apart; below the smallest binade they keep its spacing
    (for POT and m = 0 only zero is there). With the p mantissa bits of the dtype, adding 1.5 * 2^k
    * 2^(p-m) makes the last bit of the sum worth 2^(k-m): the addition itself rounds, ties to even.
    The subtraction is exact.

    Parameters
    ----------
    chunk
        Shape (n, ...), float32 or float64. NaN, with the exponent bits of infinity, becomes NaN +
        infinity, which is NaN.
    buffer
        Same shape, integers of the same size; overwritten.
    """
    layout = _LAYOUTS[chunk.dtype]
    mbits = number_format.mbits or 0
    chunk.clamp_(-number_format.max_code, number_format.max_code)
    torch.bitwise_and(chunk.view(layout.integer), layout.exponent_mask, out=buffer)
    binade = buffer.view(chunk.dtype).clamp_(min=2.0**number_format.min_exponent)
    if number_format.mbits == 0 and number_format.ebits != 1:
        # Without a mantissa the parity of the index is that of the exponent field, and the tie 1.5
        # * 2^k must not always go up as in POT. The exponent field of the dtype has the same
        # parity, since both biases are odd (FLOAT_2_E1, with bias 0, has no such tie).
        # Subtracting one ULP rounds only the tie down.
        is_even = (buffer >> layout.mantissa_bits).bitwise_not_().bitwise_and_(1)
        chunk.view(layout.integer).sub_(is_even)
    anchor = 1.5 * 2.0 ** (layout.mantissa_bits - mbits)
    chunk.add_(binade, alpha=anchor).sub_(binade, alpha=anchor)


def _round_to_codebook_(chunk: Tensor, number_format: NumberFormat) -> None:
    """Round in place to the nearest of the codes, listed; ties go to the smaller one.

    As torchao's search for the nearest and the decision tree of bitsandbytes have it.
    """
    codes = torch.from_numpy(number_format.codes())
    midpoints = (codes[:-1] + codes[1:]) / 2  # exact in float64
    limits = midpoints.to(chunk.dtype)
    # Rounded down, so that a float32 value is above the limit if it is above the midpoint.
    limits = torch.where(
        limits > midpoints, limits.nextafter(torch.full_like(limits, -torch.inf)), limits
    )
    place = torch.bucketize(chunk.contiguous(), limits.to(chunk.device), out_int32=True)
    nearest = codes.to(chunk.device, chunk.dtype)[place]
    chunk.copy_(nearest.where(~chunk.isnan(), chunk))
