"""Facts of dequantized tensors beside NumPy's, and bits of storage counted by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracles import softmax_divergence
from torch import Tensor, nn

from ptqdb.measurement.dequantized_tensors import (
    LARGEST_VALUE_BIN,
    DequantizedInput,
    dequantized_facts,
    float_groups,
)
from ptqdb.measurement.facts import DequantizedTensorFacts
from ptqdb.measurement.inputs import InputFacts
from ptqdb.measurement.tensors import TensorMeasurement
from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.coding import code_input, code_layer
from ptqdb.quantization.formats import PRESETS, find_format
from ptqdb.quantization.group_scaling import Groups
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.layers import QuantizedLayer

Doubles = NDArray[np.float64]
CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sums_of_numpy(values: Tensor, dequantized: Tensor) -> list[float]:
    x, y = (each.double().numpy().ravel() for each in (values, dequantized))
    return [y.sum(), (y * y).sum(), (x * y).sum(), ((y - x) ** 2).sum()]


def sums_of(facts: DequantizedTensorFacts) -> list[float]:
    return [facts.sum_y, facts.sum_y2, facts.sum_xy, facts.squared_error_sum]


def bins_of_numpy(values: Tensor, dequantized: Tensor) -> dict[int, int]:
    """Of round(y * 2047 / max |x|), ties toward zero."""
    scaled = dequantized.double().numpy().ravel() * 2047 / float(values.abs().max())
    found = np.copysign(np.ceil(abs(scaled) - 0.5), scaled).astype(int)
    found = np.clip(found, -LARGEST_VALUE_BIN, LARGEST_VALUE_BIN)
    numbers, counts = np.unique(found, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


# --- weights and biases ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "q4_K", "int4_g128_zp", "int8", "nf4"])
def test_the_facts_of_a_weight(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqdb.measurement.chunks.CHUNK_SIZE", 100)
    layer = nn.Conv2d(11, 6, 3)
    layer.weight.data = normal(6, 11, 3, 3).contiguous(memory_format=torch.channels_last)
    known = find_format(name)
    coded = code_weight(layer.weight.detach(), known.number_format, known.scheme, layer)
    values, dequantized = layer.weight.detach(), coded.dequantized(layer)
    assert coded.groups is not None
    facts = dequantized_facts(values, dequantized, coded.groups)
    np.testing.assert_allclose(sums_of(facts), sums_of_numpy(values, dequantized), rtol=1e-11)
    scales = coded.groups.scales
    assert (facts.scale_count, facts.min_scale, facts.max_scale) == (
        len(scales),
        float(scales.min()),
        float(scales.max()),
    )
    assert facts.clipped_count == coded.groups.clipped_count
    assert dict(zip(facts.bins, facts.counts, strict=True)) == bins_of_numpy(values, dequantized)
    assert sum(facts.counts) == values.numel()
    assert facts.softmax_group_count == 6 * 9
    assert facts.softmax_js_fakefreeze == pytest.approx(softmax_divergence(values, dequantized))
    factor = math.sqrt(values.double().square().sum() / dequantized.double().square().sum())
    expected = softmax_divergence(values, (dequantized.double() * factor).float())
    assert facts.softmax_js_l2 == pytest.approx(expected, rel=1e-4)


def test_bins_continue_beyond_the_range() -> None:
    """Of a largest magnitude of 1: up to 4, and what is beyond counts in the last bin."""
    values = torch.tensor([1.0, -1.0, 0.5, 0.25])
    dequantized = torch.tensor([2.0, -1.25, 9.0, -40.0])
    facts = dequantized_facts(values, dequantized, Groups(torch.ones(1)), with_softmax=False)
    # 1.25 * 2047 = 2558.75
    assert facts.bins.tolist() == [-8188, -2559, 4094, 8188]
    assert facts.counts.tolist() == [1, 1, 1, 1]
    assert facts.softmax_js_fakefreeze is None


def test_a_weight_of_zeros() -> None:
    zeros = torch.zeros(3, 4)
    facts = dequantized_facts(zeros, zeros, Groups(torch.ones(3)))
    assert (facts.bins.tolist(), facts.counts.tolist()) == ([0], [12])
    assert sums_of(facts) == [0.0] * 4
    assert facts.softmax_js_l2 == facts.softmax_js_fakefreeze == 0


def test_a_tensor_left_in_floats_has_no_error() -> None:
    bias = normal(7)
    facts = dequantized_facts(bias, bias, float_groups(bias))
    assert (facts.scale_count, facts.min_scale, facts.max_scale) == (0, None, None)
    assert (facts.storage_bits, facts.clipped_count) == (32 * 7, 0)
    assert facts.squared_error_sum == 0
    assert facts.sum_y2 == facts.sum_xy == pytest.approx(float(bias.double().square().sum()))


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("int8", 32),
        ("INT_5@tensor,range=mse,bias=study", 64),
        ("POT_4@tensor,range=mse,bias=study", 8),
        ("FLOAT_6_E3@tensor,range=mse,bias=study", 16),
    ],
)
def test_a_bias_in_codes(name: str, bits: int) -> None:
    """Its scale, that of the input times that of the weight, is not stored."""
    layer = nn.Linear(8, 3)
    layer.weight.data, layer.bias.data = normal(3, 8) * 0.1, normal(3, seed=1)
    known = find_format(name)
    found = InputRange(torch.tensor(-1.0), torch.tensor(2.0))
    coded = code_layer(QuantizedLayer(layer, "layer"), found, known)
    assert coded.bias is not None
    assert coded.bias.groups is not None
    assert coded.inputs is not None
    assert coded.weight.groups is not None
    of_input = coded.inputs.dequantized(torch.ones(1, 8))[1]
    scales = of_input.double() * coded.weight.groups.scales.double()
    assert torch.equal(coded.bias.groups.scales, scales)
    assert coded.bias.groups.storage_bits == bits * 3
    assert len(scales) == (3 if name == "int8" else 1)


# --- inputs ----------------------------------------------------------------------------------


def layers() -> dict[str, tuple[nn.Module, Tensor]]:
    images = normal(6, 5, 4, 3)
    return {
        "linear": (nn.Linear(21, 2), normal(6, 4, 21)),
        "convolution": (nn.Conv2d(5, 2, 3), images),
        "channels last": (nn.Conv2d(5, 2, 3), images.to(memory_format=torch.channels_last)),
    }


@pytest.mark.parametrize("kind", layers())
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("int8", lambda tokens, _: 1),
        ("fp8", lambda tokens, _: 1),
        ("fp8_rowwise", lambda tokens, _: tokens),
        ("mxfp4", lambda tokens, _: tokens),
        ("INT_4@block2,zero_point=inputs", lambda tokens, channels: tokens * -(-channels // 2)),
    ],
)
def test_the_facts_of_an_input(
    name: str, count: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several batches as of one, in any memory order."""
    monkeypatch.setattr("ptqdb.measurement.chunks.CHUNK_SIZE", 50)
    layer, inputs = layers()[kind]
    found = InputRange(torch.tensor(-1.5), torch.tensor(2.0))
    codes = code_input(QuantizedLayer(layer, "layer"), found, find_format(name))
    assert codes is not None
    dequantized, scales = codes.dequantized(inputs)
    facts = []
    for size in (6, 4, 1):
        measured = DequantizedInput(codes)
        for batch in torch.split(inputs, size):
            measured.add(batch)
        facts.append(measured.facts())
    for each in facts:
        np.testing.assert_allclose(sums_of(each), sums_of_numpy(inputs, dequantized), rtol=1e-11)
        channels = inputs.shape[-1 if kind == "linear" else 1]
        assert each.scale_count == count(inputs.numel() // channels, channels)
        assert each.min_scale == float(scales.min())
        assert each.max_scale == float(scales.max())
        assert (len(each.bins), each.storage_bits, each.clipped_count) == (0, None, None)
        assert each.softmax_js_l2 is None
    assert facts[0].squared_error_sum > 0


def test_the_facts_of_an_input_left_in_floats() -> None:
    layer, inputs = layers()["convolution"]
    known = [find_format("nf4"), find_format("mxfp4"), find_format("INT_4")]
    of_floats = TensorMeasurement(float(inputs.abs().max()), CPU)
    found = InputRange(*torch.aminmax(inputs))
    measured = InputFacts(QuantizedLayer(layer, "layer"), found, known)
    for batch in torch.split(inputs, 4):
        measured.add(batch)
        of_floats.add(batch)
    facts = measured.facts(known[0], of_floats)
    assert isinstance(facts, DequantizedTensorFacts)
    np.testing.assert_allclose(sums_of(facts), sums_of_numpy(inputs, inputs), rtol=1e-11)
    assert facts.squared_error_sum == 0
    assert (facts.scale_count, facts.min_scale) == (0, None)
    assert isinstance(measured.facts(known[1], of_floats), DequantizedTensorFacts)
    assert not isinstance(measured.facts(known[2], of_floats), DequantizedTensorFacts)


def test_batches_without_elements_add_nothing() -> None:
    layer, inputs = layers()["linear"]
    found = InputRange(*torch.aminmax(inputs))
    for name in ("int8", "mxfp4"):
        codes = code_input(QuantizedLayer(layer, "layer"), found, find_format(name))
        assert codes is not None
        some, none = DequantizedInput(codes), DequantizedInput(codes)
        for batch in (inputs[:0], inputs, inputs[:0]):
            some.add(batch)
        none.add(inputs)
        assert sums_of(some.facts()) == sums_of(none.facts())
        assert some.facts().scale_count == none.facts().scale_count


# --- bits of storage -------------------------------------------------------------------------

# A layer of 3 output channels with a fan-in of 70 x 9 = 630: 1,890 weights.
# Blocks of each channel: 16 -> 40 (39 and one of 6), 32 -> 20, 64 -> 10, 128 -> 5, 256 -> 3.
CHANNELS, WEIGHTS = 3, 1890
STORAGE_BITS = {
    "int8": 8 * WEIGHTS + 32 * CHANNELS,
    "int8_dynamic": 8 * WEIGHTS + 32 * CHANNELS,
    "int4_g128": 4 * WEIGHTS + 16 * 5 * CHANNELS,
    "int4_g128_zp": 4 * WEIGHTS + (16 + 4) * 5 * CHANNELS,
    "int4_g32": 4 * WEIGHTS + 16 * 20 * CHANNELS,
    "fp8": 8 * WEIGHTS + 32,
    "fp8_rowwise": 8 * WEIGHTS + 32 * CHANNELS,
    "fp8_e5m2": 8 * WEIGHTS + 32,
    "mxfp8_e4m3": 8 * WEIGHTS + 8 * 20 * CHANNELS,
    "mxfp8_e5m2": 8 * WEIGHTS + 8 * 20 * CHANNELS,
    "mxfp6_e2m3": 6 * WEIGHTS + 8 * 20 * CHANNELS,
    "mxfp6_e3m2": 6 * WEIGHTS + 8 * 20 * CHANNELS,
    "mxfp4": 4 * WEIGHTS + 8 * 20 * CHANNELS,
    "mxint8": 8 * WEIGHTS + 8 * 20 * CHANNELS,
    "nvfp4": 4 * WEIGHTS + 8 * 40 * CHANNELS + 32,
    "nf4": 4 * WEIGHTS + 32 * 10 * CHANNELS,
    "q8_0": 8 * WEIGHTS + 16 * 20 * CHANNELS,
    "q4_0": 4 * WEIGHTS + 16 * 20 * CHANNELS,
    # 3 superblocks with two float16 each, 20 blocks with scale and minimum of 6 bits
    "q4_K": 4 * WEIGHTS + (2 * 16 * 3 + 2 * 6 * 20) * CHANNELS,
    "INT_5@tensor,zero_point=weights": 5 * WEIGHTS + 32 + 5,
    "POT_4@block630,scale=E4M3": 4 * WEIGHTS + 8 * CHANNELS + 32,
}


@pytest.mark.parametrize("name", STORAGE_BITS)
def test_bits_of_storage_of_a_ragged_layer(name: str) -> None:
    layer, known = nn.Conv2d(70, 3, 3), find_format(name)
    layer.weight.data = normal(3, 70, 3, 3)
    coded = code_weight(layer.weight.detach(), known.number_format, known.scheme, layer)
    assert coded.groups is not None
    assert coded.groups.storage_bits == STORAGE_BITS[name]


@pytest.mark.parametrize(
    "name", ["mxfp4", "nvfp4", "nf4", "q4_K", "q4_0", "int4_g128_zp", "mxint8"]
)
def test_whole_blocks_have_the_bits_per_weight_of_the_format(name: str) -> None:
    """But for the one float32 of a tensor that E4M3 scales need."""
    weight, known = normal(4, 256), find_format(name)
    coded = code_weight(weight, known.number_format, known.scheme)
    assert coded.groups is not None
    assert coded.groups.storage_bits is not None
    of_tensor = 32 if known.scheme.scale_format == "E4M3" else 0
    assert (coded.groups.storage_bits - of_tensor) / weight.numel() == known.bits_per_weight


def test_every_preset_is_counted() -> None:
    assert set(PRESETS) == {name for name in STORAGE_BITS if "@" not in name}
