"""In which precision a convolution of codes may run so that its products stay exact."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch

from ptqdb.quantization.number_formats import NumberFormat

BFLOAT16_SIGNIFICANT_BITS = 8
PROBE_SIZE = 512


@cache
def has_bfloat16_units(device: torch.device) -> bool:
    """Whether float32 products really run in low precision there when they are allowed to.

    Asked by multiplying numbers that a bfloat16 (or a TF32) cannot hold: a processor's flags
    promise units that the library may not use. On AVX-512 with bfloat16 but without AMX, oneDNN
    takes the permission and computes in float32 all the same (torch 2.15, AMD EPYC family 26).
    """
    factors = torch.full((PROBE_SIZE, PROBE_SIZE), 1 + 2.0**-12, device=device)
    with torch.inference_mode(), matrix_precision("bfloat16"):
        product = factors @ factors
    return bool((product == PROBE_SIZE).all())


def precision_of(number_format: NumberFormat, device: torch.device, asked: str = "auto") -> str:
    """``bfloat16`` where codes and products are exact in it and units exist, else ``float32``.

    A bfloat16 holds 8 significant bits; the product of two such codes has at most 16 and is
    exact in the float32 accumulator.

    Parameters
    ----------
    asked
        ``auto``, or ``float32`` to force it.
    """
    fits = number_format.significant_bits <= BFLOAT16_SIGNIFICANT_BITS
    if asked == "auto" and fits and has_bfloat16_units(device):
        return "bfloat16"
    return "float32"


@contextmanager
def matrix_precision(precision: str) -> Iterator[None]:
    """Let float32 convolutions and matrix products run at that precision inside the block.

    On a GPU the 11 bits of TF32 hold such codes exactly as well, and float32 goes in and out
    without a copy: ``bfloat16`` selects them there.
    """
    # torch builds these modules at run time, where a type checker cannot see them
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
