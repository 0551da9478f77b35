"""The network that is measured is the network that was given, or it is refused."""

import copy
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from prepared_networks import IMAGES, Bare, Parts, lived_in, prepared
from torch import Tensor, nn

from ptqdb.errors import DataError, PtqdbError
from ptqdb.quantization.agreement import GivenNetwork, relative_distance
from ptqdb.quantization.network import prepare

# Networks that look at themselves, or at what they are given.


class AsksForKind(Parts):
    """Leaves out its activation after a layer of another class."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        for step in (self.conv, self.norm):
            x = step(x)
            if isinstance(step, self.kind):
                x = torch.relu(x)
        return self.classify(x)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.BatchNorm2d])
def test_code_that_asks_for_a_class_finds_it(kind: type[nn.Module]) -> None:
    network = prepared(AsksForKind(kind))
    assert list(network.layers) == ["conv", "head"]
    assert network.folding.folded == (("norm",) if kind is nn.BatchNorm2d else ())


class Branches(Parts):
    """Does something to the convolution's output that a symbolic trace would not see."""

    def __init__(self, asks: Callable[[Any], bool], change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.asks, self.change = asks, change

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.classify(self.norm(self.change(y) if self.asks(y) else y))


@pytest.mark.parametrize(
    ("asks", "change"),
    [
        (lambda y: isinstance(y, Tensor), lambda y: y * 0.5 + 0.1),
        (torch.is_tensor, torch.relu),
        (lambda y: not torch.compiler.is_compiling(), lambda y: y.clamp(-0.3, 0.3)),
        (lambda y: type(y) is Tensor, lambda y: y.abs()),
        (lambda y: y.shape[0] > 0, torch.relu_),
    ],
)
def test_what_stands_between_a_layer_and_its_norm_is_seen(
    asks: Callable[[Any], bool], change: Callable[[Tensor], Tensor]
) -> None:
    network = prepared(Branches(asks, change))
    assert network.folding.folded == ()
    assert network.folding.statement == "batch norm stays in float: norm"


class AsksForBias(Parts):
    """Asks for what folding gives its layer: a bias."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.norm(self.conv(x))) * (2.0 if self.conv.bias is None else 1.0)


def test_a_norm_stays_where_folding_it_changes_the_outputs() -> None:
    network = prepared(AsksForBias())
    assert network.folding.unfolded == ("norm",)
    assert list(network.layers) == ["conv", "head"]


class Cosine(nn.Linear):
    """Its outputs depend on the directions of input and weight alone."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = functional.linear(functional.normalize(x), functional.normalize(self.weight))
        return out


class ScalesByNorm(Parts):
    """Divides by the norm of another layer's weight."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.norm(self.conv(x)) / self.head.weight.norm())


class Bent(Parts):
    def __init__(self) -> None:
        super().__init__()
        self.head = Cosine(8, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.norm(self.conv(x)))


def test_layers_whose_outputs_do_not_scale_stay_in_float() -> None:
    network = prepared(Bent())
    assert list(network.layers) == ["conv"]
    assert set(network.left) == {"head"}
    assert list(prepared(ScalesByNorm()).layers) == ["conv", "head"]


class Remembers(nn.Conv2d):
    """Takes what it multiplied with from a copy of its own: codes would not reach it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_buffer("copy", self.weight.detach().clone())

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert isinstance(self.copy, Tensor)
        out: Tensor = super()._conv_forward(x, self.copy, bias)
        return out


def test_a_layer_that_multiplies_something_else_stays_in_float() -> None:
    class Net(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.other = Remembers(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.other(self.norm(self.conv(x))))

    network = prepared(Net())
    assert list(network.layers) == ["conv", "head"]
    assert "other" in network.left


def test_hooks_run_once_and_outside_of_the_codes() -> None:
    seen = []

    class Hooked(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.conv.register_forward_hook(lambda _, inputs, out: out.clamp(-0.2, 0.2))
            self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.norm(self.conv(x)))

    network = prepared(Hooked())
    assert network.folding.folded == ()  # the hook stands between
    assert list(network.layers) == ["conv", "head"]
    seen.clear()
    with torch.inference_mode():
        network.module(IMAGES)
    assert seen == [(4, 8)]


# Calls of layers in every way.


class Calls(Parts):
    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.norm(self.call(self.conv, x)))


@pytest.mark.parametrize(
    "call",
    [
        lambda layer, x: layer(input=x),
        lambda layer, x: layer.forward(x),
        lambda layer, x: layer.__call__(x),
        lambda layer, x: nn.Module.__call__(layer, x),
        lambda layer, x: functools.partial(layer)(x),
        lambda layer, x: torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False),
    ],
)
def test_a_layer_is_found_however_it_is_called(call: Callable[[nn.Module, Tensor], Tensor]) -> None:
    network = prepared(Calls(call))
    assert list(network.layers) == ["conv", "head"]
    assert network.folding.folded == ("norm",)


def test_a_layer_that_is_written_to_and_copied() -> None:
    class Net(Parts):
        def forward(self, x: Tensor) -> Tensor:
            setattr(self.conv, "last_shape", x.shape)  # noqa: B010
            twin = self.conv  # a name is no copy
            assert twin.weight.shape == self.conv.state_dict()["weight"].shape
            return self.classify(self.norm(twin(x)))

    assert list(prepared(Net()).layers) == ["conv", "head"]


# Memory.


class Flattens(nn.Module):
    """As half of all hand-written networks do it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        out: Tensor = self.head(x.view(x.size(0), -1))
        return out


def test_a_view_after_a_convolution_is_measured_in_contiguous_memory() -> None:
    network = prepared(Flattens())
    assert network.memory_format == torch.contiguous_format
    assert prepared(Calls(lambda layer, x: layer(x))).memory_format == torch.channels_last


def test_images_that_the_network_overwrites() -> None:
    class Net(Parts):
        def forward(self, x: Tensor) -> Tensor:
            x -= 0.5
            return self.classify(self.norm(self.conv(x)))

    kept = IMAGES.clone()
    assert list(prepared(Net()).layers) == ["conv", "head"]
    assert torch.equal(IMAGES, kept)


# Types.


def test_autocast_inside() -> None:
    class Net(Parts):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.classify(self.norm(self.conv(x))).float()

    network = prepare(lived_in(Net()), IMAGES)
    assert list(network.layers) == ["conv", "head"]
    assert network.folding.folded == ("norm",)


def test_a_part_in_float64() -> None:
    class Net(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.head.double()

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.norm(self.conv(x)).double())

    network = prepared(Net())
    assert list(network.layers) == ["conv", "head"]
    assert network.layers["head"].weight.dtype == torch.float32


# Things that cannot be copied, or that come from elsewhere.


def test_locks_files_and_generators_are_no_obstacle() -> None:
    class Net(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.lock, self.log = threading.Lock(), sys.__stderr__
            self.generator = torch.Generator().manual_seed(3)

        def forward(self, x: Tensor) -> Tensor:
            with self.lock:
                return self.classify(self.norm(self.conv(x)))

    assert list(prepared(Net()).layers) == ["conv", "head"]


def test_weights_in_a_plain_list_are_refused() -> None:
    class Net(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.more = [nn.Conv2d(8, 8, 1)]

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.more[0](self.norm(self.conv(x))))

    with pytest.raises(DataError, match=r"shape \(8, 8, 1, 1\) from elsewhere"):
        prepare(lived_in(Net()), IMAGES)


@pytest.mark.parametrize("failure", [SystemExit(3), RecursionError("too deep"), KeyError("x")])
def test_a_network_that_fails_fails_alone(failure: BaseException) -> None:
    class Net(Parts):
        def forward(self, x: Tensor) -> Tensor:
            raise failure

    with pytest.raises((type(failure), PtqdbError)):
        prepare(Net(), IMAGES)


# The comparison itself.


@pytest.mark.parametrize(
    ("found", "expected", "distance"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [1.0, -5.0], 0.2),
        ([1.0, torch.inf], [1.0, torch.inf], 0.0),
        ([1.0, torch.inf], [1.0, -torch.inf], torch.inf),
        ([1.0, torch.nan], [1.0, torch.nan], 0.0),
        ([1.0, torch.nan], [1.0, torch.inf], torch.inf),
        ([1.0, 2.0], [1.0, torch.nan], torch.inf),
        ([0.0, 1e-9], [0.0, 0.0], 1.0),
        ([0.0], [0.0, 0.0], torch.inf),
    ],
)
def test_relative_distance(found: list[float], expected: list[float], distance: float) -> None:
    pair = [torch.tensor(found)], [torch.tensor(expected)]
    assert relative_distance(*pair) == pytest.approx(distance)


def test_rounding_is_told_from_another_network() -> None:
    """A network whose outputs are differences of large numbers: rounding moves them far."""

    class Cancels(Parts):
        factor = 1.0

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.classify(((y + 3e4) * self.factor - 3e4 * self.factor) / self.factor)

    module, other, rounded = Cancels(), Cancels(), Cancels()
    given = GivenNetwork(module, IMAGES)
    other.conv.weight.data *= 1.01
    rounded.factor = 3.0
    with torch.inference_mode():
        for network in (other, rounded):
            assert relative_distance([network(IMAGES)], [module(IMAGES)]) > 1e-5
    assert not given.agrees(other, lambda: copy.deepcopy(other).double())
    assert given.agrees(rounded, lambda: copy.deepcopy(rounded).double())


def test_a_network_for_single_images_is_measured() -> None:
    class Single(Bare):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.conv(x)).mean((2, 3)).view(1, 8)
            out: Tensor = self.head(y)
            return out

    network = prepared(Single())
    assert not network.is_batched
    assert list(network.layers) == ["conv", "head"]


def test_closures_and_locks_are_no_obstacle_to_float64() -> None:
    class Closed(Parts):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()
            self.block: Callable[[Tensor], Tensor] = lambda x: self.norm(self.conv(x))

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.block(x))

    found = GivenNetwork(lived_in(Closed()), IMAGES)._expected_in_float64
    assert found is not None
    assert found[0].dtype == torch.float64
