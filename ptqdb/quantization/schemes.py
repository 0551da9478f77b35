"""Quantization schemes: which values share a scale, and how the scale is computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ptqdb.quantization.number_formats import NumberFormat


@dataclass(frozen=True)
class Scheme:
    """A quantization scheme, as stored with the facts.

    Attributes
    ----------
    granularity
        Which values share one scale: ``tensor``.
    symmetry
        ``symmetric``: zero is a code (zero point 0) and the range is symmetric.
    range_rule
        ``max``: the largest absolute value becomes the largest code.
    quantized
        The roles of the tensors that are quantized.
    calibration
        The data for the ranges of the inputs.
    """

    name: str
    granularity: str
    symmetry: str
    range_rule: str
    quantized: tuple[str, ...]
    calibration: str

    def weight_max_abs(self, weight: Tensor) -> Tensor:
        """Return the float32 amax of each group of weights with one scale; here one, ()."""
        low, high = torch.aminmax(weight)  # unlike abs(), allocates no copy
        return torch.maximum(-low, high)


PER_TENSOR_SYMMETRIC_MAX = Scheme(
    "per_tensor_symmetric_max",
    "tensor",
    "symmetric",
    "max",
    ("weight", "bias", "input"),
    "calibration images",
)


def compute_scale(max_abs: Tensor, number_format: NumberFormat) -> Tensor:
    """Return the float32 scale, ``max_abs / largest code``; 1 where that is 0 or subnormal.

    Dividing by a subnormal is imprecise, and by 0 gives infinity or NaN. Values with such a small
    scale are treated as zeros: divided by 1 they become code 0, and values multiplied by the scale
    later, such as a bias, are unchanged. Only POT_8 has codes that small, down to 2^-126, and keeps
    its codes for values above half of that.

    Parameters
    ----------
    max_abs
        float32, any shape; the scale has the same shape.

    Examples
    --------
    >>> from ptqdb.quantization.number_formats import number_format
    >>> compute_scale(torch.tensor([254.0, 0.0, 1e-37]), number_format("INT_8")).tolist()
    [2.0, 1.0, 1.0]
    """
    scale = max_abs.float() / number_format.max_code
    return torch.where(scale >= torch.finfo(scale.dtype).tiny, scale, torch.ones_like(scale))
