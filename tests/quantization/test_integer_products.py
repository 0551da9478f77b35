"""Products of small integers: exact, equal to those of floats, and asked for before use."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ptqdb.quantization import integer_products
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.integer_products import (
    LARGEST_FAN_IN,
    IntegerProduct,
    has_integer_units,
    multiplies_bytes,
)
from ptqdb.quantization.layers import QuantizedLayer
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat, number_format
from ptqdb.quantization.rounding import ZERO_BYTE, byte_codes, scaled_codes
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX

BYTE_FORMATS = [known for known in STUDY_GRID if known.fits_bytes]
ONE = torch.ones(())
PROCESSOR = Path("/proc/cpuinfo")
needs_units = pytest.mark.skipif(
    not has_integer_units(), reason="this processor multiplies no bytes, or not exactly"
)


def codes_of(shape: tuple[int, ...], known: NumberFormat, seed: int = 0) -> Tensor:
    """Random codes of the format."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * known.max_code / 2
    return scaled_codes(values, ONE, known)


@pytest.mark.skipif(not PROCESSOR.exists(), reason="the processor's features are not known here")
def test_processors_with_integer_units_use_them() -> None:
    """Red if a PyTorch release drops or changes the operators: every sweep would become slow."""
    if "vnni" not in PROCESSOR.read_text():
        pytest.skip("this processor has no integer units")
    assert has_integer_units()


def test_twenty_formats_of_the_grid_fit_bytes() -> None:
    for known in STUDY_GRID:
        whole = known.magnitudes() / known.unit
        assert known.fits_bytes == (whole.max() <= 127), known.name
        assert (whole == whole.round()).all(), known.name
    assert len(BYTE_FORMATS) == 20


@pytest.mark.parametrize("known", BYTE_FORMATS, ids=lambda known: known.name)
def test_bytes_are_the_promised_codes(known: NumberFormat) -> None:
    middle = torch.from_numpy(known.magnitudes()).float()
    ties = (middle[1:] + middle[:-1]) / 2
    beyond = torch.tensor([1e3, 3e9, 1e30, torch.inf])
    near = torch.cat([ties, *(torch.nextafter(ties, ties + side) for side in (-1, 1)), beyond])
    random = torch.randn(5, 7, 33, 31, generator=torch.Generator().manual_seed(1))
    last = random.contiguous(memory_format=torch.channels_last)
    scale = torch.tensor(3.1) / known.max_code
    for values, by in ((torch.cat([near, -near]), ONE), (random, scale), (last, scale)):
        found = byte_codes(values, by, known)
        assert found is not None
        assert found.stride() == values.stride()
        whole = (found.float() - ZERO_BYTE) * known.unit
        assert torch.equal(whole, scaled_codes(values, by, known))


@pytest.mark.parametrize("known", BYTE_FORMATS, ids=lambda known: known.name)
def test_nan_has_no_byte(known: NumberFormat) -> None:
    values = torch.ones(1000)
    values[777] = torch.nan
    assert byte_codes(values, ONE, known) is None
    assert byte_codes(values[:0], ONE, known) is not None


LAYERS = {
    "3x3": nn.Conv2d(5, 7, 3, padding=1),
    "strided, dilated": nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "1x1": nn.Conv2d(70, 33, 1),
    "grouped": nn.Conv2d(8, 12, 3, groups=4, padding="same"),
    "depthwise": nn.Conv2d(9, 9, 3, groups=9, padding=1),
    "valid": nn.Conv2d(3, 4, 2, padding="valid", bias=False),
    "linear": nn.Linear(300, 11),
    "linear without bias": nn.Linear(12, 3, bias=False),
}


def parameters(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> dict[str, Tensor]:
    found = {"weight": weight.to(dtype)}
    return found if bias is None else {**found, "bias": bias.to(dtype)}


def bytes_of(codes: Tensor, known: NumberFormat) -> Tensor:
    found = byte_codes(codes, ONE, known)
    assert found is not None
    return found


@needs_units
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("name", ["INT_8", "POT_4", "FLOAT_7_E2", "FLOAT_3_E1"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_products_are_those_of_floats(
    layer: nn.Conv2d | nn.Linear, name: str, memory_format: torch.memory_format
) -> None:
    known = number_format(name)
    weight = codes_of(tuple(layer.weight.shape), known, 1)
    if isinstance(layer, nn.Linear):
        inputs = codes_of((4, 6, layer.in_features), known)
    else:
        inputs = codes_of((3, layer.in_channels, 12, 11), known)
        inputs = inputs.contiguous(memory_format=memory_format)
    bias = None if layer.bias is None else 100 * torch.linspace(-1, 1, len(layer.bias))
    assert multiplies_bytes(layer, weight)
    with torch.no_grad():
        found = IntegerProduct(layer, weight, bias, known)(bytes_of(inputs, known))
        exact = functional_call(layer, parameters(weight, bias, torch.float64), inputs.double())
        plain = functional_call(layer, parameters(weight, bias, torch.float32), inputs)
    assert torch.equal(found, exact.float())
    assert found.stride() == plain.stride()


@needs_units
def test_sums_beyond_the_exact_integers_of_float32_are_exact() -> None:
    known, layer = number_format("INT_8"), nn.Linear(LARGEST_FAN_IN, 2, bias=False)
    weight = torch.full((2, LARGEST_FAN_IN), 127.0)
    weight[1] = -125
    inputs = torch.full((1, LARGEST_FAN_IN), -127.0)
    inputs[0, 0] = 1
    found = IntegerProduct(layer, weight, None, known)(bytes_of(inputs, known))
    assert torch.equal(found, (inputs.double() @ weight.double().T).float())


class Own(nn.Linear):
    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(*inputs)


OTHERS = {
    "transposed": (nn.ConvTranspose2d(3, 4, 3), (2, 3, 8, 8)),
    "one dimension": (nn.Conv1d(3, 4, 3), (2, 3, 8)),
    "reflected": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 8, 8)),
    "uneven padding": (nn.Conv2d(3, 4, 2, padding="same"), (2, 3, 8, 8)),
    "long sums": (nn.Linear(LARGEST_FAN_IN + 1, 2), (2, LARGEST_FAN_IN + 1)),
    "own forward": (Own(6, 3), (2, 6)),
    "one image": (nn.Conv2d(3, 4, 3), (3, 8, 8)),
    "one row": (nn.Linear(6, 3), (6,)),
    "no image": (nn.Conv2d(3, 4, 3), (0, 3, 8, 8)),
    "an image": (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 8, 8)),
    "double": (nn.Conv2d(3, 4, 3).double(), (2, 3, 8, 8)),
}


@needs_units
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("layer", "shape"), OTHERS.values(), ids=OTHERS.keys())
def test_a_layer_returns_the_same_in_integers(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Those that cannot multiply bytes use their own forward, and so does an image with NaN."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(shape, generator=generator).to(weight.dtype)
    for values in (inputs, inputs * 10, torch.where(inputs > 1, torch.nan, inputs)):
        found = [outputs(layer, inputs, values, in_integers=each) for each in (True, False)]
        assert torch.equal(*(each.nan_to_num(7.0) for each in found))
        assert found[0].dtype == weight.dtype


def outputs(layer: nn.Module, seen: Tensor, values: Tensor, *, in_integers: bool) -> Tensor:
    twin = QuantizedLayer(layer, "layer")
    largest = seen.abs().max().float() if seen.numel() else ONE
    coded = twin.code(
        InputRange.symmetric(largest), number_format("INT_5"), PER_TENSOR_SYMMETRIC_MAX
    )
    twin.use_codes(coded, in_integers=in_integers)
    with torch.no_grad():
        found: Tensor = twin.forward(values)
    return found


@needs_units
def test_readers_of_one_input_share_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(*args: Any) -> Tensor | None:
        nonlocal calls
        calls += 1
        return byte_codes(*args)

    monkeypatch.setattr("ptqdb.quantization.input_codes.byte_codes", counted)
    readers = [QuantizedLayer(nn.Conv2d(3, 4, 3), "a"), QuantizedLayer(nn.Conv2d(3, 2, 3), "b")]
    other = QuantizedLayer(nn.ConvTranspose2d(3, 2, 3), "c")
    readers[0].is_read_on = True
    inputs = torch.linspace(-1, 1, 600).reshape(2, 3, 10, 10)
    known = number_format("INT_8")
    expected = []
    for in_integers in (False, True):
        for layer in (*readers, other):
            layer.first_reader = readers[0] if layer is not readers[0] else None
            coded = layer.code(InputRange.symmetric(ONE), known, PER_TENSOR_SYMMETRIC_MAX)
            layer.use_codes(coded, in_integers=in_integers)
        with torch.no_grad():
            expected.append([layer.forward(inputs) for layer in (*readers, other)])
    assert calls == 1
    assert all(map(torch.equal, *expected))


@pytest.mark.parametrize(
    "name", ["qlinear_pointwise", "qconv2d_pointwise", "qconv_prepack", "qlinear_prepack"]
)
def test_without_an_operator_nothing_is_multiplied_in_integers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without:
        def __getattr__(self, asked: str) -> Any:
            if asked == name:
                raise AttributeError(asked)
            return getattr(torch.ops.onednn, asked)

    monkeypatch.setattr(integer_products, "_ONEDNN", Without())
    assert not has_integer_units.__wrapped__()


@needs_units
def test_operators_that_saturate_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of processors that add pairs of products in 16 bits."""

    class Saturating:
        def __getattr__(self, asked: str) -> Any:
            found = getattr(torch.ops.onednn, asked)
            if asked.endswith("_pointwise"):
                return lambda *given: found(*given).clamp(-(2.0**15) * 16, 2.0**15 * 16)
            return found

    monkeypatch.setattr(integer_products, "_ONEDNN", Saturating())
    assert not has_integer_units.__wrapped__()
