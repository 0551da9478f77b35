"""Scales of tensors and of groups of values, from their range."""

import torch
from torch import Tensor

from ptqdb.quantization.number_formats import NumberFormat


def max_abs(values: Tensor) -> Tensor:
    """Return the amax of a tensor, ()."""
    low, high = torch.aminmax(values)  # unlike abs(), allocates no copy
    return torch.maximum(-low, high)


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
    return usable_scale(max_abs.float() / number_format.max_code)


def usable_scale(scale: Tensor) -> Tensor:
    """Return float32 scales, with 1 in place of those that are 0 or subnormal; NaN stays."""
    return torch.where(scale < torch.finfo(scale.dtype).tiny, torch.ones_like(scale), scale)
