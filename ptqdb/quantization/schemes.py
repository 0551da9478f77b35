"""Ways of quantizing: which values share a scale, and how the scale follows from them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ptqdb.quantization.number_formats import NumberFormat


@dataclass(frozen=True)
class Scheme:
    """One way of quantizing, as it is stored with the facts.

    Attributes
    ----------
    granularity
        Which values share one scale: ``tensor``.
    symmetry
        ``symmetric``: zero is a code and the range is even about it.
    range_rule
        ``max``: the largest absolute value becomes the largest code.
    quantized
        The roles of the tensors that are quantized.
    calibration
        What the ranges of the inputs are taken over.
    """

    name: str
    granularity: str
    symmetry: str
    range_rule: str
    quantized: tuple[str, ...]
    calibration: str

    def weight_max_abs(self, weight: Tensor) -> Tensor:
        """float32 range of each group of the weights that shares a scale; here of all, shape ()."""
        low, high = torch.aminmax(weight)  # unlike abs() it makes no second weight
        return torch.maximum(-low, high)


PER_TENSOR_SYMMETRIC_MAX = Scheme(
    "per_tensor_symmetric_max",
    "tensor",
    "symmetric",
    "max",
    ("weight", "bias", "input"),
    "calibration images",
)


def scale_of(max_abs: Tensor, number_format: NumberFormat) -> Tensor:
    """float32 scale, ``max_abs / largest code``; 1 where that is 0 or subnormal.

    A subnormal has few bits left: as a divisor it would throw codes off the grid, and 0 makes
    them infinite or NaN. Values whose scale would be that small are treated as zeros. Divided
    by 1 they become code 0, and what is multiplied by the scale later, such as a bias, is kept.
    Only POT_8 has codes that small, down to 2^-126, and keeps its codes of values above half
    of that.

    Parameters
    ----------
    max_abs
        float32, any shape; the scale has the same.

    Examples
    --------
    >>> from ptqdb.quantization.number_formats import number_format
    >>> scale_of(torch.tensor([254.0, 0.0, 1e-37]), number_format("INT_8")).tolist()
    [2.0, 1.0, 1.0]
    """
    scale = max_abs.float() / number_format.max_code
    return torch.where(scale >= torch.finfo(scale.dtype).tiny, scale, torch.ones_like(scale))
