"""Convolutions and linear layers of small integers on the processor's integer units.

oneDNN multiplies uint8 by int8 and sums in int32, two to four times as fast as in float32. PyTorch
offers this without documenting it, for its own quantized networks: whether it is there, exact and
rounds as promised is found out by trying (`has_integer_units`).

Sources: the operators ``onednn::qconv2d_pointwise`` and ``onednn::qlinear_pointwise`` of PyTorch;
`int8 inference <https://uxlfoundation.github.io/oneDNN/dev_guide_inference_int8.html>`__ of oneDNN.
"""

import copy
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ptqdb.quantization.number_formats import NumberFormat, number_format
from ptqdb.quantization.rounding import ZERO_BYTE, byte_codes, scaled_codes

LARGEST_FAN_IN = 1 << 16
"""Up to here any sum of products of a uint8 and an int8 stays below 2^31."""

_ONEDNN: Any = torch.ops.onednn
_VECTOR_ELEMENTS = 64
"""At least as many floats as a step of a vectorized loop takes."""


class IntegerProduct:
    """The products of a layer's weight with inputs in codes, in integers.

    Parameters
    ----------
    layer
        One that `multiplies_bytes`.
    weight
        float32 codes of a format that ``fits_bytes``.
    bias
        float32, (out_channels,), in units of the output's scale.
    zero_byte
        The byte of code 0 of the inputs.
    """

    def __init__(
        self,
        layer: nn.Module,
        weight: Tensor,
        bias: Tensor | None,
        number_format: NumberFormat,
        zero_byte: int = ZERO_BYTE,
    ):
        self._layer: Any = layer
        self._zero_byte = zero_byte
        self._bias, self._unit = bias, number_format.unit
        self._is_channels_last = weight.ndim == 4 and _is_channels_last(weight)
        self._unit_of_weight = torch.full((1,), self._unit)
        self._zero = torch.zeros(1, dtype=torch.int8)
        found = byte_codes(weight, torch.ones(()), number_format)
        assert found is not None
        whole = found.bitwise_xor_(ZERO_BYTE).view(torch.int8)  # subtracts 128
        if isinstance(layer, nn.Linear):
            self._packed = _ONEDNN.qlinear_prepack(whole, None)
        else:
            self._packed = _ONEDNN.qconv_prepack(
                *(whole, self._unit_of_weight, self._unit, zero_byte), *self._geometry
            )

    @property
    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        layer = self._layer
        padding = _padding(layer)
        assert padding is not None
        return list(layer.stride), padding, list(layer.dilation), layer.groups

    def __call__(self, codes: Tensor) -> Tensor:
        """Return the float32 outputs in units of the output's scale.

        The sum is exact in int32; it is rounded to float32, and once more with the bias.

        Parameters
        ----------
        codes
            From ``byte_codes``; in the shape that the layer takes.
        """
        scales = (self._unit, self._zero_byte, self._packed, self._unit_of_weight, self._zero)
        inputs = (*scales, self._bias)
        if isinstance(self._layer, nn.Linear):
            rows = codes.reshape(-1, codes.shape[-1])
            outputs: Tensor = _ONEDNN.qlinear_pointwise(
                rows, *inputs, 1.0, 0, torch.float32, "none", [], ""
            )
            return outputs.view(*codes.shape[:-1], -1)
        outputs = _ONEDNN.qconv2d_pointwise(
            codes, *inputs, *self._geometry, 1.0, 0, torch.float32, "none", [], ""
        )
        is_channels_last = self._is_channels_last or _is_channels_last(codes)
        return outputs if is_channels_last else outputs.contiguous()


def multiplies_bytes(layer: nn.Module, weight: Tensor) -> bool:
    """Whether `IntegerProduct` can stand for a layer of torch's own forward.

    Its padding is the same on both sides and zero, and no sum leaves int32.
    """
    if weight[0].numel() > LARGEST_FAN_IN:
        return False
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and _padding(layer) is not None
    return isinstance(layer, nn.Linear)


def takes(layer: nn.Module, inputs: Tensor) -> bool:
    """Whether the inputs have the shape of a batch: others are left to the layer itself."""
    is_batch = inputs.ndim >= 2 if isinstance(layer, nn.Linear) else inputs.ndim == 4
    return is_batch and inputs.numel() > 0


def _padding(layer: nn.Conv2d) -> list[int] | None:
    """Zeros on each side; None if the sides differ."""
    sides = layer._reversed_padding_repeated_twice[::-1]
    ends, starts = sides[::2], sides[1::2]
    return list(starts) if ends == starts else None


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether a convolution takes it as channels last: a 1x1 kernel may be both by its values."""
    _, channels, _, width = tensor.shape
    return tensor.stride()[1:] == (1, channels * width, channels)


@cache
def has_integer_units() -> bool:
    """Whether processor and PyTorch multiply bytes exactly and round to them as promised.

    Processors without such units may saturate sums at 16 bits, and PyTorch may change what it does
    not document: the largest sums and the closest neighbours of ties are tried.
    """
    layers: tuple[nn.Conv2d | nn.Linear, ...] = (
        nn.Conv2d(64, 16, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False),
        nn.Linear(256, 16, bias=False),
    )
    try:
        with torch.no_grad():
            return _rounds_to_bytes() and all(_multiplies_exactly(layer) for layer in layers)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _multiplies_exactly(layer: nn.Conv2d | nn.Linear) -> bool:
    known = number_format("INT_8")
    largest, one = known.max_code, torch.ones(())
    shape = (3, 256) if isinstance(layer, nn.Linear) else (3, layer.in_channels, 5, 5)
    exact = copy.deepcopy(layer).double()
    for codes in (torch.full(shape, largest), _spread(shape, largest)):
        given = byte_codes(codes, one, known)
        assert given is not None
        like_weight = torch.full_like(layer.weight, largest)
        for weight in (like_weight, -like_weight, _spread(layer.weight.shape, -largest)):
            exact.weight.copy_(weight)
            for zero_byte in (ZERO_BYTE, 0, 77):
                found = IntegerProduct(layer, weight, None, known, zero_byte)(given)
                shifted = codes.double() + (ZERO_BYTE - zero_byte)
                if not torch.equal(found, exact(shifted).float()):
                    return False
    return True


def _spread(shape: Sequence[int], end: float) -> Tensor:
    """Integers from -end to end."""
    return torch.linspace(-end, end, math.prod(shape)).round().reshape(shape)


def _rounds_to_bytes() -> bool:
    """Whether ties and their neighbours round as in float32, in vectors and in their rests."""
    known = number_format("INT_8")
    ties = torch.arange(-known.max_code, known.max_code) + 0.5
    near = torch.stack([ties, *(torch.nextafter(ties, ties + side) for side in (-1.0, 1.0))], 1)
    values, one = near.flatten(), torch.ones(())
    for start in range(_VECTOR_ELEMENTS):
        codes = byte_codes(values[start:], one, known)
        expected = scaled_codes(values[start:], one, known)
        if codes is None or not torch.equal(codes.float() - ZERO_BYTE, expected):
            return False
    return True
