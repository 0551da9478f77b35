"""Layers that compute in codes: which may, what they read, and what stays in float."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from collecting import Silence, images
from prepared_networks import IMAGES, Bare, Parts, lived_in, prepared
from torch import Tensor, nn
from torch.func import functional_call

import ptqdb
from ptqdb.networks.copies import scratch_copy
from ptqdb.quantization.network import QuantizedNetwork, input_ranges, prepare
from ptqdb.quantization.number_formats import number_format
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX

Forward = Callable[[Any, Tensor], Tensor]


def logits(network: QuantizedNetwork, name: str) -> Tensor:
    """In a format that is calibrated on the same images."""
    batches = [IMAGES.to(memory_format=network.memory_format)]
    ranges = input_ranges(network, batches)
    known, scheme = number_format(name), PER_TENSOR_SYMMETRIC_MAX
    network.use_codes(
        {key: layer.code(ranges[key], known, scheme) for key, layer in network.layers.items()}
    )
    with torch.no_grad(), scratch_copy(network.module) as scratch:
        found: Tensor = scratch(batches[0].clone())
    network.use_float()
    return found


def holds(module: nn.Module, layers: list[str]) -> QuantizedNetwork:
    """The network has these layers, and is close to itself in a wide format."""
    network = prepared(module)
    ran = input_ranges(network, [IMAGES.to(memory_format=network.memory_format)])
    network = network.keep([layer for layer in network.layers if layer in ran])
    assert sorted(network.layers) == sorted(layers)
    with torch.no_grad():
        expected = module(IMAGES.clone())
    found = logits(network, "INT_16")
    assert float((found - expected).abs().max()) < 1e-2 * float(expected.abs().max())
    return network


class Middle(Bare):
    """Calls a function between convolution and head."""

    def __init__(self, function: Forward, **parts: Any) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.function = function
        self.fc = nn.Linear(8, 8)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x)).mean((2, 3))
        out: Tensor = self.head(self.function(self, y))
        return out


# Weights that change.


def with_other_parameters(net: Any, y: Tensor) -> Tensor:
    found: Tensor = functional_call(net.fc, {"weight": net.fast, "bias": net.fc.bias}, (y,))
    return found


def with_weights_in_turn(net: Any, y: Tensor) -> Tensor:
    for weight in (net.one, net.two):
        net.fc.weight.data = weight.data
        y = torch.relu(net.fc(y))
    return y


def with_a_copied_weight(net: Any, y: Tensor) -> Tensor:
    net.fc.weight.data.copy_(net.one * float(y.abs().sum() > 0) * (1 + y.mean()))
    found: Tensor = net.fc(y)
    return found


@pytest.mark.parametrize(
    "function", [with_other_parameters, with_weights_in_turn, with_a_copied_weight]
)
def test_a_layer_whose_weight_the_network_changes_stays_in_float(function: Forward) -> None:
    parts = {name: nn.Parameter(torch.randn(8, 8)) for name in ("fast", "one", "two")}
    network = prepare(Middle(function, **parts), IMAGES)
    assert "fc" not in network.layers
    assert {"conv", "head"} <= network.layers.keys()


# Layers in layers.


class Separable(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(3, 8, 3)
        self.point = nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.point(super().forward(x))
        return out


class Chunked(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 3:
            return torch.cat([self(chunk) for chunk in torch.split(x, 3)])
        return super().forward(x)


def test_a_layer_that_holds_another_stays_in_float() -> None:
    module = Middle(lambda net, y: net.chunked(y), chunked=Chunked(8, 8))
    module.conv = Separable()
    network = holds(module, ["conv.point", "head"])
    assert network.left["conv"] == "another layer runs inside it"
    assert "chunked" in network.left


# Readers of one tensor.


def in_place(y: Tensor) -> None:
    y.relu_().mul_(-3)


def by_out(y: Tensor) -> None:
    torch.mul(y, -3, out=y)


def by_data(y: Tensor) -> None:
    y.data = y.relu() * -3


def by_numpy(y: Tensor) -> None:
    array = y.detach().numpy()
    array *= -3


@pytest.mark.parametrize("write", [in_place, by_out, by_data, by_numpy])
def test_a_tensor_that_is_overwritten_between_two_readers_is_two(
    write: Callable[[Tensor], None],
) -> None:
    def function(net: Any, y: Tensor) -> Tensor:
        z: Tensor = net.fc(y)
        write(y)
        out: Tensor = z + net.other(y)
        return out

    network = holds(Middle(function, other=nn.Linear(8, 8)), ["conv", "fc", "other", "head"])
    assert network.first_readers["other"] == "other"


# State.


def test_hooks_and_closures_refer_to_the_copy() -> None:
    class Hooked(Parts):
        def __init__(self) -> None:
            super().__init__()

            def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
                self.features = [output]

            self.conv.register_forward_hook(keep)
            self.block: Callable[[Tensor], Tensor] = lambda x: self.norm(self.conv(x)).relu()

        def forward(self, x: Tensor) -> Tensor:
            y = self.block(x)
            return self.classify(y + self.features[0].mean())

    module = Hooked()
    module.train()
    module(IMAGES)  # what it leaves behind must not be read by a copy
    before = {name: tensor.clone() for name, tensor in lived_in(module).state_dict().items()}
    holds(module, ["conv", "head"])
    assert all(torch.equal(before[name], each) for name, each in module.state_dict().items())


def test_what_a_network_caches_in_float_is_not_there_in_codes() -> None:
    class Cached(Bare):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.text = nn.Buffer(torch.randn(10, 6))
            self.project = nn.Linear(6, 8)
            self.classes: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.classes is None:
                self.classes = self.project(self.text)
            out: Tensor = torch.relu(self.conv(x)).mean((2, 3)) @ self.classes.T
            return out

    module = Cached()
    network = prepared(module)
    assert list(network.layers) == ["project", "conv"]
    with torch.no_grad():
        features = torch.relu(module.conv(IMAGES)).mean((2, 3))
        found, wide = logits(network, "INT_2"), logits(network, "INT_16")
        expected = features @ module.project(module.text).T
    assert network.module.classes is None
    assert torch.allclose(wide, expected, atol=1e-3)
    # were only the convolution in codes, the logits would lie in the span of the same classes
    residual = found - found @ torch.linalg.pinv(expected) @ expected
    assert float(residual.abs().max()) > 1e-2


def test_a_cached_function_may_be_trained_with_afterwards() -> None:
    @functools.lru_cache
    def positions(count: int) -> Tensor:
        return torch.arange(count, dtype=torch.float32)

    module = Middle(lambda net, y: net.fc(y) * positions(8))
    holds(module, ["conv", "fc", "head"])
    module(IMAGES).sum().backward()
    assert module.fc.weight.grad is not None


# Ways that depend on values.


def experts_by_index(net: Any, y: Tensor) -> Tensor:
    out, chosen = torch.zeros_like(y), (y.sum(1) * 1000).long() % 3
    for number, expert in enumerate(net.experts):
        rows = torch.where(chosen == number)[0]
        if rows.shape[0]:
            out[rows] = expert(y[rows])
    return out


def experts_by_unique(net: Any, y: Tensor) -> Tensor:
    out, chosen = torch.zeros_like(y), (y.sum(1) * 1000).long() % 3
    for number in torch.unique(chosen):
        out[chosen == number] = net.experts[int(number)](y[chosen == number])
    return out


def experts_by_mask(net: Any, y: Tensor) -> Tensor:
    out, chosen = torch.zeros_like(y), (y.sum(1) * 1000).long() % 3
    for number, expert in enumerate(net.experts):
        out[chosen == number] = expert(y[chosen == number])
    return out


@pytest.mark.parametrize("function", [experts_by_index, experts_by_unique, experts_by_mask])
def test_experts_that_single_images_do_not_reach(path: Path, function: Forward) -> None:
    torch.manual_seed(2)
    experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
    module = Middle(function, experts=experts)
    source = ptqdb.network(module.eval(), mean=[0.5] * 3, std=[0.25] * 3)
    shown = images(24, "train")
    with torch.no_grad():
        fed = (shown.images / 255 - 0.5) / 0.25
        features = torch.relu(module.conv(fed)).mean((2, 3))
        reached = set(map(int, (features.sum(1) * 1000).long() % 3))
    assert len(reached) > 1
    outcome = ptqdb.open(path, create=True).collect(
        source, images(8), shown, number_formats="INT_8", reporter=Silence()
    )
    assert outcome.failures == []
    with ptqdb.open(path) as study:
        rows = study.sql("select name, macs from layer where name like 'experts%'").rows()
    assert dict(rows) == {f"experts.{number}": 64 for number in reached}


# Layers that take more than their input, or something else.


class Modulated(nn.Linear):
    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        out = super().forward(x)
        return out if style is None else out * style


class Swapped(nn.Linear):
    def forward(self, mask: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        assert x is not None
        return super().forward(x)


class Anything(nn.Linear):
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(*args, **kwargs)


class OneHot(nn.Linear):
    def forward(self, places: Tensor) -> Tensor:
        return super().forward(functional.one_hot(places, 8).float())


class Standardized(nn.Linear):
    """Its outputs are zeros, whatever it computes."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.gain = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.std() * self.gain[:, None]
        return functional.linear(x, weight, self.bias)


@pytest.mark.parametrize(
    ("layer", "function", "is_quantized"),
    [
        (Modulated(8, 8), lambda net, y: net.layer(y, y.sigmoid()), True),
        (Swapped(8, 8), lambda net, y: net.layer(x=y), True),
        (Anything(8, 8), lambda net, y: net.layer(input=y), True),
        (OneHot(8, 8), lambda net, y: net.layer(y.argmax(1)), False),
        (Standardized(), lambda net, y: y + net.layer(y), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_that_take_more_or_something_else(
    layer: nn.Module, function: Forward, is_quantized: bool
) -> None:
    network = holds(
        Middle(function, layer=layer), ["conv", "head", *(["layer"] if is_quantized else [])]
    )
    assert is_quantized or "layer" in network.left


# Things that networks hold.


def test_masks_with_infinities_locks_and_own_parameter_classes() -> None:
    class Tagged(nn.Parameter):
        pass

    def function(net: Any, y: Tensor) -> Tensor:
        with net.lock:
            scores = (y[:, :, None] * y[:, None, :] * net.tagged + net.mask).softmax(-1)
        out: Tensor = net.fc(y) + (scores @ y[:, :, None])[..., 0]
        return out

    module = Middle(
        function,
        lock=threading.Lock(),
        mask=nn.Buffer(torch.full((8, 8), -torch.inf).triu(1)),
        tagged=Tagged(torch.ones(8)),
    )
    source = ptqdb.network(module, mean=[0.5] * 3, std=[0.25] * 3)
    assert sorted(prepare(source.load().module, IMAGES).layers) == ["conv", "fc", "head"]


def test_a_compiled_method_and_a_scripted_part() -> None:
    class Net(Middle):
        def __init__(self) -> None:
            super().__init__(lambda net, y: net.scripted(net.run(y)))
            self.run = torch.compile(self.step, backend="eager")
            with pytest.warns(FutureWarning, match="deprecated"):
                self.scripted = torch.jit.script(nn.ReLU())

        def step(self, y: Tensor) -> Tensor:
            out: Tensor = self.fc(y)
            return out

    source = ptqdb.network(Net().eval(), mean=[0.5] * 3, std=[0.25] * 3)
    assert sorted(prepare(source.load().module, IMAGES).layers) == ["conv", "fc", "head"]


def test_weights_that_are_read_under_another_name_count_once() -> None:
    def function(net: Any, y: Tensor) -> Tensor:
        return functional.linear(torch.relu(net.fc(y)), net.kernel.T)

    module = Middle(function)
    module.kernel = module.fc.weight
    network = holds(module, ["conv", "fc", "head"])
    from ptqdb.measurement.macs import count_work
    from ptqdb.measurement.unquantized import unquantized_parts

    parts = unquantized_parts(network, count_work(network.module, IMAGES[:1]))
    assert [(part.params, part.macs) for part in parts] == [(0, 64)]
