"""Ways of quantizing: which values share a scale, and how the scale follows from them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ptqdb.number_formats import NumberFormat


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
    """float32 scale, ``max_abs / largest code``; 1 where ``max_abs`` is 0.

    Parameters
    ----------
    max_abs
        float32, any shape; the scale has the same.
    """
    scale = max_abs.float() / number_format.max_code
    return torch.where(max_abs > 0, scale, torch.ones_like(scale))
