"""Counts and losses of an evaluation, beside figures worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from ptqdb.collection.evaluation import (
    MOST_IMAGES,
    Batches,
    batch_size,
    evaluation_facts,
    logits_of,
)
from ptqdb.datasets import ImageSet


def test_counts_are_those_counted_by_hand() -> None:
    # 7 classes; image 0 right in both, 1 right in float alone, 2 right in codes alone,
    # 3 wrong alike, its label last in the order of the logits
    labels = torch.tensor([0, 1, 2, 6])
    floats = torch.tensor(
        [
            [9.0, 1, 0, 0, 0, 0, 0],
            [0, 9, 1, 0, 0, 0, 0],
            [9, 0, 1, 0, 0, 0, 0],
            [9, 8, 7, 6, 5, 4, 0],
        ]
    )
    codes = torch.tensor(
        [
            [9.0, 1, 0, 0, 0, 0, 0],
            [9, 3, 1, 0, 0, 0, 0],
            [0, 0, 9, 0, 0, 0, 0],
            [9, 8, 7, 6, 5, 4, 0],
        ]
    )
    facts = evaluation_facts(codes, floats, labels, "float32")
    assert (facts.image_count, facts.correct_top1, facts.correct_top5) == (4, 2, 3)
    assert (facts.correct_both, facts.same_prediction) == (1, 2)


def test_losses_are_in_nats() -> None:
    floats, codes = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    facts = evaluation_facts(codes, floats, torch.tensor([1]), "float32")
    assert facts.cross_entropy_sum == pytest.approx(math.log(4), rel=1e-6)
    # sum of p ln(p / q) with p = (1/2, 1/2), q = (3/4, 1/4)
    assert facts.kl_sum == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-6)


@pytest.mark.parametrize(
    ("size", "sizes"), [(1, [1] * 103), (50, [35, 34, 34]), (103, [103]), (128, [103])]
)
def test_even_batches_cover_every_image_once_in_order(size: int, sizes: list[int]) -> None:
    count = 103
    pixels = (torch.arange(count) % 251).to(torch.uint8).reshape(-1, 1, 1, 1)
    images = ImageSet("toy", "test", pixels, torch.zeros(count, dtype=torch.int64), ("a", "b"))
    batches = Batches(images, (0.0,), (1.0,), torch.device("cpu"), size=size)
    assert [len(batch) for batch in batches] == sizes
    found = logits_of(torch.nn.Flatten(), batches)
    assert torch.allclose(found.flatten() * 255, pixels.flatten().float(), atol=1e-3)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        # 4 bytes x 32 x 32 pixels x 64 channels are 262144 of an image: 122 of them are 32.0 MB
        (64, 122),
        (480, 16),
        (8, MOST_IMAGES),
        (10_000, 1),
    ],
)
def test_batches_stay_below_the_largest_activation(channels: int, expected: int) -> None:
    """Also where a tensor that no module puts out is the largest."""
    example, convolution = torch.zeros(1, 3, 32, 32), torch.nn.Conv2d(3, channels // 2, 1)

    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.pool = convolution, torch.nn.AdaptiveAvgPool2d(1)

        def forward(self, images: Tensor) -> Tensor:
            half = self.convolution(images)
            pooled: Tensor = self.pool(torch.cat([half, half], dim=1))
            return pooled

    module = Doubled()
    assert batch_size(module, example) == expected
    assert not any(part._forward_hooks for part in module.modules())
