"""Counts and losses of an evaluation, beside figures worked out by hand."""

import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from torch import Tensor

from ptqdb.datasets.images import ImageSet
from ptqdb.measurement.batches import MOST_IMAGES, Batches, batch_size
from ptqdb.measurement.evaluation import (
    compute_logits,
    evaluation_facts,
)


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


NAN, INF = math.nan, math.inf


def test_images_without_a_prediction_are_wrong_and_left_out_of_the_sums() -> None:
    # 0 and 1 are usable; 2 has a NaN, 3 an infinity, 4 nothing finite; in 5 the float network
    # has a NaN; class 0, which argmax makes of NaN, is the label wherever it could look correct
    labels = torch.tensor([0, 1, 0, 0, 0, 0])
    good = [[2.0, 0.0, 1.0], [2.0, 0.0, 1.0]]
    floats = torch.tensor([*good, [1, 0, 0], [1, 0, 0], [1, 0, 0], [NAN, 0, 0]])
    codes = torch.tensor([*good, [NAN, NAN, NAN], [INF, 0, 0], [-INF] * 3, [1, 0, 0]])
    facts = evaluation_facts(codes, floats, labels, "float32")
    assert (facts.image_count, facts.non_finite_count) == (6, 3)
    assert (facts.correct_top1, facts.correct_both, facts.same_prediction) == (2, 1, 2)
    assert facts.correct_top5 == 3  # three classes: all of the images that have a prediction
    assert (facts.cross_entropy_count, facts.kl_count) == (3, 2)
    total = math.log(math.exp(2) + 1 + math.exp(1))
    of_last = math.log(math.exp(1) + 2) - 1
    assert facts.cross_entropy_sum == pytest.approx(total - 2 + total + of_last)
    assert facts.kl_sum == 0
    of_float = evaluation_facts(floats, floats, labels, "float32")
    assert (of_float.non_finite_count, of_float.kl_count) == (1, 5)
    assert of_float.correct_top1 == of_float.correct_both == 4
    assert (of_float.same_prediction, of_float.kl_sum) == (5, 0)


def test_masked_classes_are_allowed() -> None:
    """-infinity is probability 0: 0 log 0 is 0, whatever the other network says there."""
    floats = torch.tensor([[0.0, -INF, 0.0], [0.0, -INF, 0.0], [0.0, 0.0, 0.0]])
    codes = torch.tensor([[math.log(3.0), -INF, 0.0], [0.0, 0.0, 0.0], [-INF, 0.0, 0.0]])
    facts = evaluation_facts(codes, floats, torch.tensor([0, 1, 0]), "float32")
    assert facts.non_finite_count == 0
    # the last label is masked, and so is a class there that the float network does not mask
    assert (facts.cross_entropy_count, facts.kl_count) == (2, 2)
    assert facts.cross_entropy_sum == pytest.approx(math.log(4 / 3) + math.log(3))
    # p = (1/2, 0, 1/2) twice; q = (3/4, 0, 1/4), then (1/3, 1/3, 1/3)
    expected = 0.5 * math.log(2 / 3) + 0.5 * math.log(2) + math.log(3 / 2)
    assert facts.kl_sum == pytest.approx(expected)


def test_of_equal_logits_the_lower_class_comes_first() -> None:
    ties = torch.zeros(9, 9)
    ties[8, 0] = 1  # class 0 alone is ahead
    facts = evaluation_facts(ties, ties, torch.tensor([*range(8), 0]), "float32")
    assert (facts.correct_top1, facts.correct_top5) == (2, 6)  # labels 0 and 0; 0 to 4 and 0


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
        elements=st.sampled_from([-INF, -3e38, -1e3, -0.0, 0.0, 1.0, 1.0, 2.0, 3e38, INF, NAN]),
    ),
    st.randoms(use_true_random=False),
)
def test_counts_agree_with_each_other_whatever_the_logits(
    values: NDArray[np.float32], random: Random
) -> None:
    codes = torch.from_numpy(values)
    floats = codes[torch.tensor(random.sample(range(len(codes)), len(codes)))]
    labels = torch.tensor([random.randrange(codes.shape[1]) for _ in codes])
    facts = evaluation_facts(codes, floats, labels, "float32")
    predicted = facts.image_count - facts.non_finite_count
    assert facts.correct_both <= facts.correct_top1 <= facts.correct_top5 <= predicted
    assert facts.correct_both <= facts.same_prediction <= predicted
    assert facts.correct_top5 == predicted or codes.shape[1] > 5
    assert max(facts.cross_entropy_count, facts.kl_count) <= predicted
    assert 0 <= facts.cross_entropy_sum < INF
    assert -1e-6 <= facts.kl_sum < INF


@pytest.mark.parametrize(
    ("size", "sizes"), [(1, [1] * 103), (50, [35, 34, 34]), (103, [103]), (128, [103])]
)
def test_even_batches_cover_every_image_once_in_order(size: int, sizes: list[int]) -> None:
    count = 103
    pixels = (torch.arange(count) % 251).to(torch.uint8).reshape(-1, 1, 1, 1)
    images = ImageSet("toy", "test", pixels, torch.zeros(count, dtype=torch.int64), ("a", "b"))
    batches = Batches(images, (0.0,), (1.0,), torch.device("cpu"), size=size)
    assert [len(batch) for batch in batches] == sizes
    found = compute_logits(torch.nn.Flatten(), batches)
    assert torch.allclose(found.flatten() * 255, pixels.flatten().float(), atol=1e-3)


def test_few_images_are_normalized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.arange(6 * 3 * 4 * 4, dtype=torch.uint8).reshape(6, 3, 4, 4)
    shown = ImageSet("toy", "test", pixels, None, ())
    batches = Batches(shown, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"), size=4)
    first = [batch.clone() for batch in batches]
    again = list(batches)
    assert all(map(torch.equal, first, again))
    assert all(one is other for one, other in zip(again, batches, strict=True))
    monkeypatch.setattr("ptqdb.measurement.batches.KEPT_BYTES", 4 * pixels.numel() - 1)
    many = Batches(shown, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"), size=4)
    assert all(map(torch.equal, first, many))
    assert not any(one is other for one, other in zip(many, many, strict=True))


def test_some_of_the_images_fill_their_batches() -> None:
    """A probe takes the first few: in as few batches as if there were no others."""
    shown = ImageSet("toy", "test", torch.arange(300).byte().reshape(100, 3, 1, 1), None, ())
    order = torch.tensor([7, 3, 99, 0, 50])
    batches = Batches(shown, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"), size=3, order=order)
    found = list(batches)
    assert [len(batch) for batch in found] == [3, 2]
    every = Batches(shown, (0.5,) * 3, (0.5,) * 3, torch.device("cpu")).head(100)
    assert torch.equal(torch.cat(found), every[order])


@pytest.mark.parametrize("write", [lambda x: x.zero_(), lambda x: x.data.zero_()])
def test_images_that_a_network_overwrites_are_normalized_again(
    write: Callable[[Tensor], Tensor],
) -> None:
    shown = ImageSet("toy", "test", torch.ones(5, 3, 2, 2, dtype=torch.uint8), None, ())
    batches = Batches(shown, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"), size=2)
    expected = batches.head(5)
    for _ in range(2):
        found = []
        for batch in batches:
            found.append(batch.clone())
            write(batch)
        assert torch.equal(torch.cat(found), expected)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        # 4 bytes x 32 x 32 pixels x 64 channels are 262144 of an image: 61 of them are 16.0 MB
        (64, 61),
        (480, 8),
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
