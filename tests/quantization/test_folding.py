"""Batch norm is folded where a pass shows that nothing else is between, and only there."""

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from ptqdb.networks.copies import full_copy, has_computed_weights, settle_computed_weights
from ptqdb.quantization.network import prepare

IMAGE = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def lived_in(module: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters and statistics far from those of a fresh batch norm, in float64."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.double().state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(generator=generator)
    return module.eval()


def folds(module: nn.Module, shape: tuple[int, ...] = (1, 4, 6, 6)) -> tuple[tuple[str, ...], str]:
    """Which batch norms are folded, once the outputs are seen to be the same."""
    network = prepare(lived_in(module), torch.randn(2, *shape[1:]).double())
    for batch in (1, 2, 3) if network.is_batched else (1,):
        images = torch.randn(batch, *shape[1:]).double()
        with torch.inference_mode():
            expected, found = module(images), network.module(images)
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)
    return network.folding.folded, network.folding.statement


CASES = [
    (nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6), (1, 4, 9)),
    (nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="circular"), nn.BatchNorm2d(6), None),
    (nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6), (1, 4, 3, 4, 5)),
    (nn.ConvTranspose1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), (1, 4, 9)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), None),
    (nn.ConvTranspose2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4), None),
    (nn.ConvTranspose3d(4, 6, 2), nn.BatchNorm3d(6, affine=False), (1, 4, 3, 4, 5)),
    (nn.Linear(5, 6), nn.BatchNorm1d(6), (1, 5)),
]


@pytest.mark.parametrize(("layer", "norm", "shape"), CASES, ids=lambda x: type(x).__name__)
def test_every_kind_of_layer_folds(
    layer: nn.Module, norm: nn.Module, shape: tuple[int, ...] | None
) -> None:
    assert folds(nn.Sequential(layer, norm), shape or (1, 4, 6, 6)) == (("1",), "")


def test_the_channels_of_a_sequence_are_not_a_linear_layers_outputs() -> None:
    # (batch, 6 places, 6 outputs): the norm's channels are the places
    assert folds(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)), (1, 6, 5))[0] == ()


class Parts(nn.Module):
    """What the cases below are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.other, self.second = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)


class ByShape(Parts):
    """Asks for a size, which is the same for every image."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] > 4:
            x = self.norm(self.conv(x))
        out: Tensor = self.second(self.other(x.relu()))
        return out


class ByBatch(Parts):
    """A single image takes another way than a batch."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.norm(x) if x.shape[0] > 1 else x
        out: Tensor = self.second(self.other(x))
        return out


class ByValue(Parts):
    """The way depends on the picture."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)) if x.sum() > 0 else x
        return out


class Shaped(Parts):
    """Asks for a size first, which a symbolic trace does not know."""

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(x) if x.shape[-1] > 4 else x

    def rest(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class SharedNorm(Shaped):
    def rest(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)) + self.norm(self.other(x))
        return out


class ReadTwice(Shaped):
    def rest(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = self.norm(x) + x
        return out


class PooledBetween(Shaped):
    def rest(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(functional.max_pool2d(self.conv(x), 2))
        return out


class WeightRead(Shaped):
    def rest(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)) + functional.conv2d(x, self.conv.weight)
        return out


@pytest.mark.parametrize(
    ("kind", "folded", "said"),
    [
        (ByShape, ("norm", "second"), ""),
        (ByBatch, ("second",), "stays in float: norm"),
        (ByValue, (), "stays in float: norm, second"),
        (SharedNorm, (), "stays in float: norm"),
        (ReadTwice, (), "stays in float: norm"),
        (PooledBetween, (), "stays in float: norm"),
        (WeightRead, (), "stays in float: norm"),
    ],
)
def test_only_what_stands_alone_between_two_layers_is_folded(
    kind: type[nn.Module], folded: tuple[str, ...], said: str
) -> None:
    found, statement = folds(kind())
    assert found == folded
    assert said in statement


class TracedWeightRead(Parts):
    """The norm's and the layer's parameters are read apart."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)) + functional.conv2d(x, self.conv.weight)
        second: Tensor = self.second(self.other(x)) * self.second.weight[:, None, None]
        return out + second


def test_parameters_that_are_read_elsewhere_stay() -> None:
    assert folds(TracedWeightRead())[0] == ()


def test_a_norm_with_its_activation_leaves_the_activation() -> None:
    timm = pytest.importorskip("timm.layers", reason="needs timm")
    module = nn.Sequential(nn.Conv2d(4, 4, 3), timm.BatchNormAct2d(4), nn.Conv2d(4, 4, 1))
    assert folds(module)[0] == ("1",)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
        lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
        lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 3)),
        lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)),
        lambda: prune.l1_unstructured(nn.Conv2d(4, 4, 3), "weight", 0.5),  # type: ignore[no-untyped-call]
    ],
    ids=["weight_norm", "spectral_norm", "old_weight_norm", "old_spectral_norm", "pruned"],
)
def test_computed_weights_become_parameters(wrapped: object) -> None:
    torch.manual_seed(0)
    assert callable(wrapped)
    module = nn.Sequential(wrapped(), nn.BatchNorm2d(4))
    module(IMAGE)
    module.eval()
    names = [name for name, _ in module.named_parameters()]
    plain = full_copy(module)
    assert has_computed_weights(plain)
    settle_computed_weights(plain)
    assert not has_computed_weights(plain)
    assert {name for name, _ in plain[0].named_parameters()} == {"weight", "bias"}  # type: ignore[index]
    network = prepare(module, IMAGE)
    assert network.folding.folded == ("1",)
    with torch.inference_mode():
        expected = module(IMAGE)
        assert torch.allclose(plain(IMAGE), expected, atol=1e-6)
        assert torch.allclose(network.module(IMAGE), expected, atol=1e-5)
    assert [name for name, _ in module.named_parameters()] == names


class Frozen(nn.Module):
    """Somebody's own frozen batch norm, that does not say its eps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, mean, var = (part[:, None, None] for part in self.buffers())
        return (x - mean) * (weight * (var + 1e-3).rsqrt()) + bias


class Clipped(Frozen):
    """Does more than a batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(-1, 1)


class Activated(Frozen):
    """Holds its activation, which runs after it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.eps, self.act = 1e-3, nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(super().forward(x))
        return out


@pytest.mark.parametrize(
    ("norm", "is_folded"),
    [
        (Frozen(4), True),
        (Clipped(4), False),
        (Activated(4), True),
        (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), True),
        (nn.InstanceNorm2d(4), False),
        (nn.GroupNorm(2, 4), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_has_running_statistics_is_a_batch_norm(norm: nn.Module, is_folded: bool) -> None:
    found, statement = folds(nn.Sequential(nn.Conv2d(4, 4, 3), norm, nn.Conv2d(4, 4, 1)))
    assert found == (("1",) if is_folded else ())
    has_statistics = isinstance(getattr(norm, "running_mean", None), Tensor)
    assert bool(statement) == (has_statistics and not is_folded)


def test_frozen_batch_norm_of_torchvision_is_batch_norm() -> None:
    ops = pytest.importorskip("torchvision.ops", reason="needs torchvision")
    module = lived_in(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    frozen = nn.Sequential(nn.Conv2d(4, 4, 3), ops.FrozenBatchNorm2d(4)).double().eval()
    frozen.load_state_dict({k: v for k, v in module.state_dict().items() if "batches" not in k})
    networks = [prepare(each, IMAGE.double()) for each in (module, frozen)]
    weights = [network.layers["0"].weight for network in networks]
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], next(module.parameters()).float())
