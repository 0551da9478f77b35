"""The reference networks have the published sizes."""

import pytest
import torch
from oracles import count_macs
from torch import Tensor, nn

from ptqdb.errors import UnsupportedLayerError, UsageError
from ptqdb.networks.reference import REFERENCE_NETWORKS, reference_network

# params and MACs at full width, for 32 x 32 images and ten classes; the MACs count 2 for
# each normalized and 1 for each activated element as well
PUBLISHED = {
    "AlexNet": (3.87e6, 70e6),
    "AlexNet_BN": (3.87e6, 70e6),
    "VGG_16": (33.65e6, 333e6),
    "VGG_19": (38.96e6, 418e6),
    "Inception_BN": (5.88e6, 1.46e9),
    "MobileNetV2": (2.25e6, 68e6),
    "ResNet_18": (11.17e6, 557e6),
    "ResNet_50": (23.52e6, 1.31e9),
    "ResNet_152": (58.16e6, 3.74e9),
}


def elementwise_operations(module: nn.Module, example: Tensor) -> int:
    """2 for each element that a batch norm puts out, 1 for each that a ReLU or ReLU6 does."""
    total = 0

    def add(weight: int, output: Tensor) -> None:
        nonlocal total
        total += weight * output.numel()

    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.register_forward_hook(lambda _, __, output: add(2, output))
        elif isinstance(part, nn.ReLU | nn.ReLU6):
            part.register_forward_hook(lambda _, __, output: add(1, output))
    with torch.inference_mode():
        module(example)
    return total


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    module, example = REFERENCE_NETWORKS[name].build().eval(), torch.zeros(1, 3, 32, 32)
    params, macs = PUBLISHED[name]
    macs_found = sum(count_macs(module, example).values())
    macs_found += elementwise_operations(module, example)
    assert sum(parameter.numel() for parameter in module.parameters()) == pytest.approx(
        params, rel=0.01
    )
    assert macs_found == pytest.approx(macs, rel=0.03)


def test_every_published_network_is_tested() -> None:
    assert set(PUBLISHED) == set(REFERENCE_NETWORKS)


def test_width_scales_every_hidden_layer() -> None:
    module = REFERENCE_NETWORKS["VGG_16"].build(width=0.25, class_count=7).eval()
    weights = [part.weight for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert [weight.shape[0] for weight in weights[:4]] == [16, 16, 32, 32]
    assert [weight.shape[0] for weight in weights[-3:]] == [1024, 1024, 7]


def test_an_unknown_network_is_answered_with_the_closest_first() -> None:
    with pytest.raises(UsageError, match=r"no reference network is named 'vgg16'.*from VGG_16"):
        reference_network("vgg16")


def test_macs_of_a_layer_are_those_counted_by_hand() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 4 * 4, 5), nn.Linear(5, 5)
    )
    macs = count_macs(module, torch.zeros(1, 3, 4, 4))
    assert macs == {"0": 8 * 3 * 9 * 16, "2": 128 * 5, "3": 25}


def test_a_layer_used_twice_counts_twice() -> None:
    shared = nn.Linear(4, 4)
    assert count_macs(nn.Sequential(shared, shared), torch.zeros(1, 4)) == {"0": 32}


class Unused(nn.Module):
    """One of its layers never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.used(x)
        return out


def test_a_layer_that_multiplies_nothing_is_named() -> None:
    with pytest.raises(UnsupportedLayerError, match="counted none in spare"):
        count_macs(Unused(), torch.zeros(1, 4))
