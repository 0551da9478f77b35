"""Evaluates a network on its first images only: in which order, and how many are enough."""

from math import gcd, sqrt

import torch
from torch import Tensor

LEAST_IMAGES = 500
"""Fewer are never enough: with a handful of flipped images, the standard error is a guess."""
RELATIVE_ERROR = 0.05
"""A large loss need not be known more exactly than this share of it."""
GROWTH = 1.25
"""Images from one look at the standard error to the next: more looks end sooner, but the more
often one looks, the likelier it is that chance ends the evaluation."""

LEAST_ERROR = 1.645
"""Standard error in images where hardly any differs: Wilson's bound of 95 % for none of them."""


def image_order(count: int) -> Tensor:
    """Return the order in which images are evaluated: int64, (images,), each index once.

    Test images are often sorted by class, so that the first ones would not represent the others.
    Place p has image (p * stride) % count. The stride, near the golden ratio, spreads every
    prefix evenly over the images. The SQL macro ``image_at`` has the same formula.
    """
    if count == 0:
        return torch.zeros(0, dtype=torch.int64)
    return (torch.arange(count) * image_stride(count)) % count


def image_stride(count: int) -> int:
    """Return the smallest number from 0.618034 * count that is coprime to the count.

    Examples
    --------
    >>> image_stride(10_000), image_stride(2_000)
    (6181, 1237)
    """
    stride = 618_034 * count // 1_000_000
    while gcd(stride, count) != 1:
        stride += 1
    return stride


class Looks:
    """Says when to look at the standard error: at growing numbers of images."""

    def __init__(self) -> None:
        self._next = float(LEAST_IMAGES)

    def is_due(self, image_count: int) -> bool:
        """Receive the number of images so far; return whether to look now."""
        if image_count < self._next:
            return False
        self._next = image_count * GROWTH
        return True


def accuracy_loss_se(correct: int, float_correct: int, correct_both: int) -> float:
    """Return the paired standard error of the relative accuracy loss; see the macro of that name.

    Infinite if no image is correct in floating point.

    Parameters
    ----------
    correct, float_correct, correct_both
        Images classified correctly by the quantized network, by the float network, by both.
    """
    if float_correct == 0:
        return float("inf")
    flipped = correct + float_correct - 2 * correct_both
    return max(sqrt(correct / float_correct * flipped), LEAST_ERROR) / float_correct


def is_enough(
    image_count: int, correct: int, float_correct: int, correct_both: int, until: float
) -> bool:
    """Whether a loss is known well enough that an evaluation may stop at these images.

    It is if its standard error is at most `until` or 5 % of the loss, whichever is larger.

    Parameters
    ----------
    image_count
        Number of images evaluated.
    correct, float_correct, correct_both
        As in `accuracy_loss_se`.
    """
    if image_count < LEAST_IMAGES or float_correct == 0:
        return False
    loss = (float_correct - correct) / float_correct
    error = accuracy_loss_se(correct, float_correct, correct_both)
    return error <= max(until, RELATIVE_ERROR * abs(loss))
