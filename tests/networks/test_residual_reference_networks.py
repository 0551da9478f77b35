"""The reference networks whose branches are summed: their shapes, and what is coded once."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ptqdb.networks.reference import REFERENCE_NETWORKS
from ptqdb.networks.reference.mobilenet import InvertedResidual
from ptqdb.networks.reference.resnet import Block
from ptqdb.quantization.network import QuantizedNetwork, input_ranges, prepare
from ptqdb.quantization.number_formats import number_format
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX

# One 1 x 1 shortcut for each stage that changes the shape: ResNet-18's first keeps its 64
# channels, a bottleneck's first widens them to 256.
SHORTCUTS = {"ResNet_18": 3, "ResNet_50": 4, "ResNet_152": 4}
# stem, convolutions of the blocks, shortcuts, classifier
LAYERS = {
    "MobileNetV2": 1 + 3 * 17 + 1 + 1,
    "ResNet_18": 1 + 2 * 8 + 3 + 1,
    "ResNet_50": 1 + 3 * 16 + 4 + 1,
    "ResNet_152": 1 + 3 * 50 + 4 + 1,
}


def narrow(name: str) -> QuantizedNetwork:
    torch.manual_seed(3)
    module = REFERENCE_NETWORKS[name].build(width=0.0625).eval()
    return prepare(module, torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_quantized(name: str) -> None:
    network = narrow(name)
    assert len(network.layers) == LAYERS[name]
    assert network.left == {}


@pytest.mark.parametrize("name", SHORTCUTS)
@pytest.mark.slow
def test_a_shortcut_and_the_first_convolution_read_one_tensor(name: str) -> None:
    readers = narrow(name).first_readers
    shared = {layer: first for layer, first in readers.items() if layer != first}
    assert len(shared) == SHORTCUTS[name]
    for layer, first in shared.items():
        block = first.removesuffix(".residual.0")
        assert layer == f"{block}.shortcut.0"


def test_what_both_read_is_coded_once() -> None:
    network, images = narrow("ResNet_18"), torch.randn(2, 3, 32, 32)
    ranges = input_ranges(network, [images])
    known = number_format("INT_8")
    network.use_codes(
        {
            name: layer.code(ranges[name], known, PER_TENSOR_SYMMETRIC_MAX)
            for name, layer in network.layers.items()
        }
    )
    multiplied: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            multiplied.append(inputs[0])

    handle = register_module_forward_pre_hook(look)
    try:
        with torch.inference_mode():
            network.module(images)
    finally:
        handle.remove()
    codes = dict(zip(network.layers, multiplied, strict=True))
    same = {name for name, first in network.first_readers.items() if codes[name] is codes[first]}
    assert same == set(network.layers)
    assert float(codes["features.5.shortcut.0"].abs().max()) <= known.max_code
    assert not torch.equal(codes["features.5.residual.0"], codes["features.5.residual.3"])


def test_a_block_adds_its_input_or_its_projection() -> None:
    images = torch.randn(2, 4, 6, 6)
    plain = Block(4, 4, 1, is_bottleneck=False).eval()
    wider = Block(4, 4, 2, is_bottleneck=True).eval()
    with torch.inference_mode():
        assert torch.equal(plain(images), torch.relu(plain.residual(images) + images))
        outputs = wider(images)
        assert torch.equal(outputs, torch.relu(wider.residual(images) + wider.shortcut(images)))
    assert outputs.shape == (2, 16, 3, 3)
    assert [part.stride for part in wider.residual if isinstance(part, nn.Conv2d)] == [
        (1, 1),
        (2, 2),
        (1, 1),
    ]


@pytest.mark.parametrize(
    ("out_channels", "stride", "is_added"), [(4, 1, True), (4, 2, False), (6, 1, False)]
)
def test_an_inverted_residual_adds_where_shapes_allow_it(
    out_channels: int, stride: int, is_added: bool
) -> None:
    images = torch.randn(2, 4, 6, 6)
    block = InvertedResidual(4, out_channels, expansion=6, stride=stride).eval()
    with torch.inference_mode():
        expected = block.layers(images) + (images if is_added else 0)
        assert torch.equal(block(images), expected)
    hidden = [part for part in block.layers if isinstance(part, nn.Conv2d)]
    assert [part.groups for part in hidden] == [1, 24, 1]


def test_mobilenet_ends_at_five_by_five() -> None:
    # 32 + 2 of padding, halved and rounded up three times: 17, 9, 5
    features = REFERENCE_NETWORKS["MobileNetV2"].build(width=0.0625).eval().features
    assert isinstance(features, nn.Module)
    with torch.inference_mode():
        assert features(torch.zeros(1, 3, 32, 32)).shape == (1, 80, 5, 5)
