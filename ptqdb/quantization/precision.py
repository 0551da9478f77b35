"""Choose the precision of a convolution of codes so that its products stay exact."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch

from ptqdb.defaults import LAYER_SCOPE
from ptqdb.quantization.integer_products import has_integer_units
from ptqdb.quantization.number_formats import NumberFormat
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX, Scheme

BFLOAT16_SIGNIFICANT_BITS = 8
PROBE_SIZE = 512


@cache
def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device really runs float32 products in low precision when allowed to.

    Tested by multiplying numbers that bfloat16 (or TF32) cannot represent, since the library may
    not use units that the processor flags announce. On AVX-512 with bfloat16 but without AMX,
    oneDNN still computes in float32 (torch 2.15, AMD EPYC family 26).
    """
    factors = torch.full((PROBE_SIZE, PROBE_SIZE), 1 + 2.0**-12, device=device)
    with torch.inference_mode(), matrix_precision("bfloat16"):
        product = factors @ factors
    return bool((product == PROBE_SIZE).all())


def choose_precision(
    number_format: NumberFormat,
    device: torch.device,
    asked: str = "auto",
    scope: str = "all",
    scheme: Scheme = PER_TENSOR_SYMMETRIC_MAX,
) -> str:
    """Return the fastest precision in which the products of codes are exact.

    ``int8`` where every code is a byte and the processor has integer units: the sums are exact,
    too. ``bfloat16`` where codes have up to 8 significant bits and the device has such units: a
    product has at most 16 and is exact in the float32 accumulator. Else ``float32``.

    Parameters
    ----------
    asked
        ``auto``, or ``float32`` to force it.
    scope
        Where only weights, biases or inputs are in codes, the others need ``float32``. Of a single
        layer's codes, ``layer``, only ``int8`` knows which they are.
    scheme
        Under schemes with many scales, layers compute with dequantized values, in ``float32``.
    """
    if asked == "float32" or scope not in ("all", LAYER_SCOPE):
        return "float32"
    if not (scheme.is_of_study or (scheme.accumulates_codes and number_format.family == "INT")):
        return "float32"
    if device.type == "cpu" and number_format.fits_bytes and has_integer_units():
        return "int8"
    fits = scheme.is_of_study and number_format.significant_bits <= BFLOAT16_SIGNIFICANT_BITS
    if scope == "all" and fits and has_bfloat16_units(device):
        return "bfloat16"
    return "float32"


@contextmanager
def matrix_precision(precision: str) -> Iterator[None]:
    """Run float32 convolutions and matrix products at that precision inside the block.

    On a GPU, ``bfloat16`` selects TF32: its 11 bits hold such codes exactly, and no copy from or to
    float32 is needed.
    """
    # torch creates these modules at run time, invisible to type checkers
    mkldnn, cudnn, cuda = (
        cast(Any, module)
        for module in (torch.backends.mkldnn, torch.backends.cudnn, torch.backends.cuda)
    )
    settings = [(mkldnn.conv, "bf16"), (mkldnn.matmul, "bf16")]
    settings += [(cudnn.conv, "tf32"), (cuda.matmul, "tf32")]
    before = [owner.fp32_precision for owner, _ in settings]
    try:
        for owner, low in settings:
            owner.fp32_precision = low if precision == "bfloat16" else "ieee"
        yield
    finally:
        for (owner, _), value in zip(settings, before, strict=True):
            owner.fp32_precision = value
