"""Whether a network puts out the same again: random numbers, memories, other images beside."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from prepared_networks import IMAGES, Bare, Parts, lived_in, prepared
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.quantization.network import prepare

# Random networks.


class Draws(Parts):
    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.draw(self.norm(self.conv(x))))


@pytest.mark.parametrize(
    "draw",
    [
        lambda y: functional.dropout(y, 0.5),
        lambda y: y if random.random() > 0.2 else 2 * y,
        lambda y: y if np.random.rand() > 0.2 else 2 * y,
        lambda y: y if torch.rand(()) > 0.2 else 2 * y,
        lambda y: y + 0.01 * torch.randn_like(y),
    ],
    ids=["dropout", "random", "numpy", "stochastic depth", "noise"],
)
def test_random_outputs_are_refused(draw: Callable[[Tensor], Tensor]) -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    with pytest.raises(DataError, match=r"two passes .* first from head \(Linear\)"):
        prepare(Draws(draw), IMAGES)


def test_a_network_that_draws_and_does_not_care_is_measured() -> None:
    network = prepared(Draws(lambda y: (torch.rand(()), y)[1]))
    assert list(network.layers) == ["conv", "head"]
    assert "draws random numbers" in network.remarks[-1]


class Counts(Bare):
    """Counts its calls; its outputs depend on the count where it is asked to."""

    def __init__(self, *, depends: bool) -> None:
        super().__init__()
        self.depends = depends
        self.calls: Tensor = nn.Buffer(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.classify(self.conv(x) * (self.calls if self.depends else 1))


def test_passes_leave_no_trace_in_the_network() -> None:
    module = Counts(depends=False)
    network = prepare(module, IMAGES)
    assert float(module.calls) == 0
    assert all(float(buffer) == 0 for buffer in network.module.buffers())


def test_outputs_that_depend_on_earlier_passes_are_refused() -> None:
    with pytest.raises(DataError, match="keeps state between passes"):
        prepare(Counts(depends=True), IMAGES)


class OwnGenerator(Parts):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return self.classify(y + torch.randn(y.shape, generator=self.generator))


def test_a_generator_of_its_own_makes_outputs_random() -> None:
    with pytest.raises(DataError, match="draws random numbers"):
        prepare(lived_in(OwnGenerator()), IMAGES)


# Batches.


class Whitens(Parts):
    """Takes statistics over the images that happen to be together."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.classify(self.norm(y - y.mean(0)) if len(x) > 1 else self.norm(y))


def test_an_image_that_depends_on_others_is_measured_alone() -> None:
    network = prepared(Whitens())
    assert not network.is_batched
    assert "measured one image at a time" in network.remarks[-1]
