"""Layers under every scheme: what they return is what dequantized tensors give in float64.

Weights, inputs and biases are laid out and dequantized here in loops; the kernel that quantizes a
row of values has tests of its own.
"""

import copy
import itertools
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracles import quantize_rows, round_to_codes
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from ptqdb.errors import DataError
from ptqdb.quantization.codes import CodedLayer
from ptqdb.quantization.coding import code_layer
from ptqdb.quantization.formats import PRESETS, find_format
from ptqdb.quantization.group_scaling import dequantized_rows, input_rule
from ptqdb.quantization.input_codes import InputRange, calibrated_scale
from ptqdb.quantization.integer_products import IntegerProduct, has_integer_units
from ptqdb.quantization.layers import QuantizedLayer
from ptqdb.quantization.network import prepare
from ptqdb.quantization.number_formats import bias_format, number_format
from ptqdb.quantization.precision import choose_precision
from ptqdb.quantization.rounding import byte_codes
from ptqdb.quantization.schemes import MSE_FRACTIONS

Array = NDArray[Any]

PAIRS = (
    *("INT_6@channel,range=mse", "FLOAT_6_E3@block8,scale=E8M0,inputs=token", "POT_4@channel"),
    *("INT_5@tensor,range=mse,bias=study", "FLOAT_6_E3@tensor,range=mse,bias=study"),
    *("INT_4@block3,zero_point=both,inputs=token", "INT_16@channel,zero_point=both"),
    *("FLOAT_4_E2@channel,scale=E4M3", "INT_8@tensor,zero_point=inputs,bias=INT32"),
)
NAMES = (*PRESETS, *PAIRS)
SHAPES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(70, 9), (3, 70)),
    "linear, tokens": (nn.Linear(19, 5, bias=False), (2, 4, 19)),
    "one weight": (nn.Linear(1, 1), (3, 1)),
    "1d": (nn.Conv1d(7, 4, 3, padding=1), (2, 7, 9)),
    "2d": (nn.Conv2d(5, 6, 3, stride=2, padding=1), (2, 5, 7, 8)),
    "1x1": (nn.Conv2d(37, 3, 1), (2, 37, 3, 3)),
    "grouped": (nn.Conv2d(8, 6, (3, 2), groups=2), (2, 8, 5, 5)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6, padding="same", bias=False), (2, 6, 5, 5)),
    "reflecting": (nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), (2, 4, 5, 5)),
    "circular": (nn.Conv2d(4, 5, 3, padding=2, padding_mode="circular"), (2, 4, 5, 5)),
    "3d": (nn.Conv3d(3, 4, 2), (2, 3, 3, 4, 3)),
    "transposed 1d": (nn.ConvTranspose1d(6, 4, 3), (2, 6, 5)),
    "transposed 2d": (nn.ConvTranspose2d(6, 5, 3, stride=2, padding=1), (2, 6, 4, 4)),
    "transposed, grouped": (nn.ConvTranspose2d(8, 6, 2, groups=2), (2, 8, 3, 3)),
    "transposed 3d": (nn.ConvTranspose3d(4, 3, 2), (1, 4, 2, 3, 2)),
}


def made(name: str) -> tuple[nn.Module, Tensor, InputRange]:
    """A layer whose channels differ in scale, one of them zeros; an input beyond its range."""
    template, shape = SHAPES[name]
    layer = copy.deepcopy(template)
    generator = torch.Generator().manual_seed(len(name))
    weight = cast(Tensor, layer.weight)
    weight.data.copy_(torch.randn(weight.shape, generator=generator))
    if len(weight) > 1:
        weight.data.mul_(torch.logspace(-1, 1, len(weight)).view(-1, *[1] * (weight.ndim - 1)))
        weight.data[0] = 0
    if isinstance(layer.bias, Tensor):
        layer.bias.data.copy_(torch.randn(layer.bias.shape, generator=generator))
    inputs = torch.randn(shape, generator=generator) + 0.4
    return layer, inputs, InputRange(torch.tensor(-1.0), torch.tensor(1.6))


# --- the oracle ------------------------------------------------------------------------------


def places_of_channels(layer: nn.Module, shape: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """By output channel, the places of its weights: positions slowest, input channels fastest."""
    if isinstance(layer, nn.Linear):
        return [[(row, column) for column in range(shape[1])] for row in range(shape[0])]
    assert isinstance(layer.groups, int)
    positions = list(itertools.product(*map(range, shape[2:])))
    if not isinstance(layer, _ConvTransposeNd):
        return [[(o, c, *at) for at in positions for c in range(shape[1])] for o in range(shape[0])]
    per_group = shape[0] // layer.groups
    return [
        [(group * per_group + c, o, *at) for at in positions for c in range(per_group)]
        for group in range(layer.groups)
        for o in range(shape[1])
    ]


def dequantized_weight(layer: nn.Module, name: str) -> tuple[Tensor, list[float]]:
    """The weight, and the scale of each output channel where it has one."""
    weight = cast(Tensor, layer.weight).detach()
    places = places_of_channels(layer, tuple(weight.shape))
    rows = torch.tensor([[float(weight[place]) for place in row] for row in places])
    values, scales = quantize_rows(name, rows)
    found = torch.full_like(weight, torch.nan)
    for row, of_row in zip(places, values.tolist(), strict=True):
        for place, value in zip(row, of_row, strict=True):
            found[place] = value
    assert not found.isnan().any()
    return found, (scales if len(scales) == len(places) else scales[:1]).tolist()


def dequantized_input(
    layer: nn.Module, inputs: Tensor, found: InputRange, name: str
) -> tuple[Tensor, float]:
    """The input, and its scale where it has one."""
    known, scheme = find_format(name).number_format, find_format(name).scheme
    if scheme.input_granularity == "float":
        return inputs, 1.0
    if scheme.input_granularity != "tensor":
        axis = inputs.ndim - 1 if isinstance(layer, nn.Linear) else 1
        tokens = np.moveaxis(inputs.numpy(), axis, -1)
        rule = input_rule(known, scheme, found.max_abs)
        parts = [dequantized_rows(row[None], rule)[0] for row in rows_of(tokens)]
        return from_rows(parts, tokens, axis), 1.0
    if scheme.input_symmetry == "zero_point":
        levels = 2**known.bits - 1
        scale = (found.high - found.low) / levels
        zero = (-found.low / scale).round()
        codes = ((inputs / scale).round() + zero).clamp(0, levels) - zero
        return codes * scale, float(scale)
    assert scheme.range_rule != "mse" or found.counts is None
    scale = found.max_abs / known.max_code
    if scheme.scale_format == "E4M3":
        tensor_scale = found.max_abs / (448 * known.max_code)
        scale = round_to_codes(scale / tensor_scale, number_format("FLOAT_8_E4M3FN")) * tensor_scale
    return round_to_codes(inputs / scale, known) * scale, float(scale)


def rows_of(tokens: Array) -> list[Tensor]:
    return [torch.from_numpy(row.copy()) for row in tokens.reshape(-1, tokens.shape[-1])]


def from_rows(parts: list[Tensor], tokens: Array, axis: int) -> Tensor:
    values = torch.cat(parts).numpy().reshape(tokens.shape)
    return torch.from_numpy(np.moveaxis(values, -1, axis).copy())


def dequantized_bias(layer: nn.Module, name: str, of_input: float, of_weight: list[float]) -> Any:
    known, scheme = find_format(name).number_format, find_format(name).scheme
    bias = layer.bias
    if not isinstance(bias, Tensor) or scheme.bias == "float32":
        return bias
    codes = number_format("INT_32") if scheme.bias == "INT32" else bias_format(known.family)
    scale = torch.tensor(of_weight, dtype=torch.float64) * of_input
    return round_to_codes(bias.detach().double() / scale, codes) * scale


def in_float64(layer: nn.Module, weight: Tensor, bias: Any, inputs: Tensor) -> Tensor:
    exact: Any = copy.deepcopy(layer).double()
    exact.weight = nn.Parameter(weight.double())
    exact.bias = None if bias is None else nn.Parameter(bias.detach().double())
    with torch.no_grad():
        outputs: Tensor = exact(inputs.double())
    return outputs


def expected(layer: nn.Module, inputs: Tensor, found: InputRange, name: str, scope: str) -> Tensor:
    weight, of_weight = dequantized_weight(layer, name)
    values, of_input = dequantized_input(layer, inputs, found, name)
    bias = dequantized_bias(layer, name, of_input, of_weight)
    return in_float64(
        layer,
        weight if scope in ("all", "weight") else cast(Tensor, layer.weight).detach(),
        bias if scope in ("all", "bias") else layer.bias,
        values if scope in ("all", "input") else inputs,
    )


def outputs_of(layer: nn.Module, inputs: Tensor, coded: CodedLayer, scope: str = "all") -> Tensor:
    quantized = QuantizedLayer(layer, "layer")
    quantized.attach()
    quantized.use_codes(coded, scope)
    with torch.no_grad():
        outputs: Tensor = cast(Any, layer)(inputs)
    quantized.detach()
    return outputs


def coded(layer: nn.Module, found: InputRange, name: str) -> CodedLayer:
    return code_layer(QuantizedLayer(layer, "layer"), found, find_format(name))


def assert_close(found: Tensor, exact: Tensor, message: str) -> None:
    """Float32 sums; a float bias in units of the output's scale is rounded once more."""
    assert found.shape == exact.shape, message
    assert float((found - exact).abs().max() / exact.abs().max()) < 3e-6, message


# --- every scheme in every layer -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_computes_what_dequantized_tensors_give(name: str) -> None:
    for kind in SHAPES:
        layer, inputs, found = made(kind)
        codes = coded(layer, found, name)
        outputs = outputs_of(layer, inputs, codes)
        assert_close(outputs, expected(layer, inputs, found, name, "all"), kind)
        if inputs.ndim == 4:
            last = inputs.contiguous(memory_format=torch.channels_last)
            assert_close(outputs_of(layer, last, codes), outputs.double(), kind)
            weight = cast(Tensor, layer.weight)
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
            again = coded(layer, found, name)
            assert torch.equal(again.weight.dequantized(layer), codes.weight.dequantized(layer))
            assert again.weight.codes.stride() == weight.stride()
            assert_close(outputs_of(layer, last, again), outputs.double(), kind)


@pytest.mark.parametrize("scope", ["weight", "input", "bias"])
@pytest.mark.parametrize(
    "name", ["int8", "mxfp4", "nvfp4", "q4_K", "int4_g128_zp", "fp8_rowwise", *PAIRS[3:5]]
)
def test_a_scope_quantizes_its_role_alone(name: str, scope: str) -> None:
    for kind in ("linear", "grouped", "transposed, grouped"):
        layer, inputs, found = made(kind)
        outputs = outputs_of(layer, inputs, coded(layer, found, name), scope)
        assert_close(outputs, expected(layer, inputs, found, name, scope), kind)


def test_a_scope_without_codes_is_the_float_layer() -> None:
    layer, inputs, found = made("2d")
    exact = layer(inputs).detach()
    for name, scope in (("nf4", "input"), ("nf4", "bias"), ("mxfp4", "bias")):
        assert torch.equal(outputs_of(layer, inputs, coded(layer, found, name), scope), exact), name


@pytest.mark.parametrize("name", ["int8", "mxfp4", "nf4"])
def test_autocast_lowers_the_outputs_alone(name: str) -> None:
    layer, inputs, found = made("2d")
    codes = coded(layer, found, name)
    exact = outputs_of(layer, inputs, codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = outputs_of(layer, inputs, codes)
    assert torch.equal(lowered, exact.bfloat16())
    assert torch.equal(
        outputs_of(layer, inputs.bfloat16().float(), codes).bfloat16(),
        outputs_of(layer, inputs.bfloat16(), codes),
    )


@pytest.mark.parametrize("name", ["mxfp4", "int8", "fp8_rowwise"])
def test_layers_in_float64_and_float16(name: str) -> None:
    layer, inputs, found = made("linear")
    exact = expected(layer, inputs, found, name, "all")
    codes = coded(layer.double(), found, name)
    outputs = outputs_of(layer, inputs.double(), codes)
    assert outputs.dtype == torch.float64
    assert_close(outputs, exact, name)


@pytest.mark.parametrize("name", [*PRESETS, *PAIRS[:4]])
def test_nan_in_an_input_is_nan_in_the_outputs_that_read_it(name: str) -> None:
    layer, inputs, found = made("linear")
    codes = coded(layer, found, name)
    before = outputs_of(layer, inputs, codes)
    inputs[1, 3] = torch.nan
    after = outputs_of(layer, inputs, codes)
    weight = codes.weight.dequantized(layer)
    assert after[1].isnan().all() or not weight[:, 3].all()
    assert torch.equal(after[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("name", ["int8", "mxfp4", "nf4", "q4_K", "INT_4@tensor,range=mse"])
def test_weights_that_are_not_finite_are_refused(name: str) -> None:
    layer, _, found = made("linear")
    for value in (torch.nan, torch.inf):
        cast(Tensor, layer.weight).data[1, 2] = value
        with pytest.raises(DataError, match="finite weights"):
            coded(layer, found, name)


# --- a tensor that several layers read -------------------------------------------------------


class TwoReaders(nn.Module):
    """Two layers read one tensor: of one kind, or of kinds whose channels are elsewhere."""

    def __init__(self, second: nn.Module, is_convolution: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first: nn.Module = nn.Conv1d(12, 6, 1) if is_convolution else nn.Linear(10, 6)
        self.second, self.head = second, nn.LazyLinear(4)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(2)[:, :, :10].repeat(1, 4, 1)  # (images, 12, 10)
        read = torch.cat([self.first(x).flatten(1), self.second(x).flatten(1)], 1)
        outputs: Tensor = self.head(torch.relu(read))
        return outputs


@pytest.mark.parametrize("name", ["mxfp4", "int8_dynamic", "fp8", "int8"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_readers_share_codes_if_their_channels_are_in_one_dimension(
    name: str, is_shared: bool
) -> None:
    module = TwoReaders(nn.Conv1d(12, 5, 3) if is_shared else nn.Linear(10, 5), True)
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    module(images)
    network = prepare(module.eval(), images)
    readers = network.first_readers
    assert readers["second"] == ("first" if is_shared else "second")
    found = InputRange(torch.tensor(-3.0), torch.tensor(3.0))
    codes = {
        each: code_layer(layer, found, find_format(name)) for each, layer in network.layers.items()
    }
    network.use_codes(codes)
    with torch.no_grad():
        outputs = network.module(images)
        x = images.flatten(2)[:, :, :10].repeat(1, 4, 1)
        parts = [
            outputs_of(copy.deepcopy(layer), x, codes[each]).flatten(1)
            for each, layer in (("first", module.first), ("second", module.second))
        ]
        head = copy.deepcopy(module.head)
        exact = outputs_of(head, torch.relu(torch.cat(parts, 1)), codes["head"])
    network.release()
    assert torch.allclose(outputs, exact, rtol=1e-5, atol=1e-5)


# --- integers --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "2d", "grouped", "depthwise", "1x1"])
@pytest.mark.parametrize("range_", [(0.0, 4.0), (-1.0, 3.0), (-3.0, 0.0)])
def test_integers_with_a_zero_point_are_codes(kind: str, range_: tuple[float, float]) -> None:
    """Codes of four bits: without integer units, sums of two products stay below 16 bits, too.

    Padding is code 0, the zero point as a byte: 0, 4 and 15.
    """
    layer, inputs, _ = made(kind)
    found = InputRange(*map(torch.tensor, range_))
    codes = coded(layer, found, "INT_4@channel,zero_point=inputs,bias=INT32")
    assert codes.inputs is not None
    assert codes.inputs.zero_byte == round(-range_[0] / (range_[1] - range_[0]) * 15)
    assert codes.inputs.bytes_of is not None
    given = codes.inputs.bytes_of(inputs)
    assert given is not None
    assert torch.equal(given.float() - codes.inputs.zero_byte, codes.inputs.codes_of(inputs))
    bias = None if codes.bias is None else codes.bias.codes.float()
    product = IntegerProduct(
        layer, codes.weight.codes, bias, number_format("INT_4"), codes.inputs.zero_byte
    )
    sums = product(given)
    expected_sums = in_float64(layer, codes.weight.codes, bias, codes.inputs.codes_of(inputs))
    assert torch.equal(sums.double(), expected_sums)


def test_a_byte_of_nan_is_none_with_a_zero_point() -> None:
    values = torch.tensor([0.0, torch.nan, 1.0])
    assert byte_codes(values, torch.ones(()), number_format("INT_8"), 7) is None
    assert byte_codes(
        torch.tensor([-9.0, 0.4, 300.0]), torch.ones(()), number_format("INT_8"), 7
    ).tolist() == [0, 7, 255]  # type: ignore[union-attr]


@pytest.mark.skipif(
    not has_integer_units(), reason="this processor multiplies no bytes, or not exactly"
)
@pytest.mark.parametrize("kind", ["linear", "2d", "grouped", "depthwise"])
def test_int8_in_integers_is_int8_in_floats(kind: str) -> None:
    layer, inputs, found = made(kind)
    codes = coded(layer, found, "int8")
    expected_outputs = outputs_of(layer, inputs, codes)
    quantized = QuantizedLayer(layer, "layer")
    quantized.attach()
    quantized.use_codes(codes, in_integers=True)
    assert torch.equal(layer(inputs), expected_outputs)


def test_only_codes_are_asked_to_run_in_bytes() -> None:
    cpu = torch.device("cpu")
    fastest = "int8" if has_integer_units() else "float32"
    chosen = {
        name: choose_precision(
            find_format(name).number_format, cpu, scheme=find_format(name).scheme
        )
        for name in (*PRESETS, *PAIRS)
    }
    in_bytes = {name for name in chosen if find_format(name).computes_in == "bytes"}
    assert in_bytes == {"int8", PAIRS[0], PAIRS[3], PAIRS[8]}
    assert chosen == {name: fastest if name in in_bytes else "float32" for name in chosen}


# --- calibration -----------------------------------------------------------------------------


def calibrated(seed: int) -> InputRange:
    """Some 3,000 values with heavy tails, mostly positive, counted in bins of 1 / 2047."""
    draw = np.random.default_rng(seed)
    bins = np.clip(np.rint(abs(draw.normal(0, 150, 3000)) ** 1.2 - 100), -2047, 2047).astype(int)
    bins[0] = 2047
    counts = np.bincount(bins + 2047, minlength=4095)
    return InputRange(
        torch.tensor(bins.min() / 2047 * 5, dtype=torch.float32),
        torch.tensor(5.0),
        torch.from_numpy(counts),
    )


def parameters(low: float, high: float, levels: int, has_zero: bool) -> tuple[float, float]:
    """Scale and zero point in float64."""
    if not has_zero:
        return max(-low, high) / levels, 0
    scale = (max(high, 0) - min(low, 0)) / levels
    return scale, round(-min(low, 0) / scale)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("zero_point", ["none", "inputs"])
def test_the_scale_of_least_squared_error_is_found(zero_point: str, seed: int) -> None:
    """By brute force in float64: each fraction of the range, on the centres of the bins."""
    found = calibrated(seed)
    known = find_format(f"INT_4@channel,range=mse,zero_point={zero_point}")
    scale, zero = calibrated_scale(found, known.number_format, known.scheme)
    has_zero = zero_point == "inputs"
    levels = 15 if has_zero else 7
    assert found.counts is not None
    counts = found.counts.numpy()
    centres = np.arange(-2047, 2048) / 2047 * 5
    errors = []
    for fraction in MSE_FRACTIONS:
        step, offset = parameters(
            float(found.low) * fraction, float(found.high) * fraction, levels, has_zero
        )
        lowest = 0 if has_zero else -levels
        values = (np.clip(np.rint(centres / step) + offset, lowest, levels) - offset) * step
        errors.append((counts * (values - centres) ** 2).sum())
    best = MSE_FRACTIONS[int(np.argmin(errors))]
    step, offset = parameters(float(found.low) * best, float(found.high) * best, levels, has_zero)
    assert best < 1
    assert float(scale) == pytest.approx(step, rel=1e-6)
    assert (None if zero is None else float(zero)) == (offset if has_zero else None)


@pytest.mark.parametrize("zero_point", ["none", "inputs"])
def test_the_percentile_of_an_input(zero_point: str) -> None:
    """At most 3 of 3,000 values are beyond the 99.9th percentile of the magnitudes."""
    found = calibrated(1)
    known = find_format(f"INT_8@channel,range=percentile,zero_point={zero_point}")
    scale, zero = calibrated_scale(found, known.number_format, known.scheme)
    assert found.counts is not None
    bins = abs(np.repeat(np.arange(-2047, 2048), found.counts.numpy()))
    limit = np.sort(bins)[2996] / 2047 * 5  # the 2,997th, of 3,000
    assert limit < 5
    low, high = max(float(found.low), -limit), limit
    has_zero = zero_point == "inputs"
    step, offset = parameters(low, high, 255 if has_zero else 127, has_zero)
    assert float(scale) == pytest.approx(step, rel=1e-6)
    assert (None if zero is None else float(zero)) == (offset if has_zero else None)


def test_a_range_of_zeros_has_scale_one() -> None:
    zeros = InputRange(torch.zeros(()), torch.zeros(()), torch.zeros(4095, dtype=torch.int64))
    for rule in ("max", "percentile", "mse"):
        for zero_point in ("none", "inputs"):
            known = find_format(f"INT_8@channel,range={rule},zero_point={zero_point}")
            scale, zero = calibrated_scale(zeros, known.number_format, known.scheme)
            assert float(scale) == 1
            assert zero is None or float(zero) == 0


@pytest.mark.parametrize("name", ["int8", "fp8", "FLOAT_4_E2@channel,scale=E4M3"])
def test_inputs_without_elements(name: str) -> None:
    layer, inputs, found = made("2d")
    assert outputs_of(layer, inputs[:0], coded(layer, found, name)).shape == (0, 6, 4, 4)
    linear, tokens, found = made("linear")
    assert outputs_of(linear, tokens[:0], coded(linear, found, name)).shape == (0, 9)
    assert outputs_of(linear, tokens[0], coded(linear, found, name)).shape == (9,)
