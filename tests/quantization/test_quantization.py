"""Folding, the quantized layers, and the precisions that they run in."""

import pytest
import torch
from oracles import round_to_codes
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.networks.reference import REFERENCE_NETWORKS
from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.layers import QuantizedLayer
from ptqdb.quantization.network import input_ranges, prepare
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat, bias_format, number_format
from ptqdb.quantization.precision import choose_precision, has_bfloat16_units, matrix_precision
from ptqdb.quantization.rounding import scaled_codes
from ptqdb.quantization.scales import compute_scale
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX, Scheme

CPU = torch.device("cpu")


def with_lived_in_batch_norm(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and affine parameters far from those of a fresh batch norm."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(generator=generator)
    return module.eval()


@pytest.mark.parametrize("name", [name for name in REFERENCE_NETWORKS if name != "AlexNet"])
def test_every_batch_norm_is_folded_and_the_outputs_stay(name: str) -> None:
    torch.manual_seed(1)
    module = with_lived_in_batch_norm(REFERENCE_NETWORKS[name].build(width=0.0625))
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    images = torch.randn(4, 3, 32, 32)
    network = prepare(module, images[:1])
    norms = [name for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert sorted(network.folding.folded) == sorted(norms)
    assert network.folding.unfolded == ()
    with torch.inference_mode():
        expected, found = module(images), network.module(images)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())


def test_linear_and_transposed_layers_fold_too() -> None:
    torch.manual_seed(2)
    linear = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    transposed = nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))
    for module, inputs in ((linear, torch.randn(6, 5)), (transposed, torch.randn(2, 3, 5, 5))):
        network = prepare(with_lived_in_batch_norm(module), inputs[:1])
        assert network.folding.folded == ("1",)
        assert torch.allclose(network.module(inputs), module(inputs), atol=1e-5)


class Shared(nn.Module):
    """The convolution's output is read beside the batch norm: folding would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = self.norm(y) + y
        return out


class Untraceable(Shared):
    """Its way depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)) if x.sum() > 0 else x
        return out


@pytest.mark.parametrize("kind", [Shared, Untraceable])
def test_batch_norm_that_cannot_be_folded_stays_and_is_named(kind: type[nn.Module]) -> None:
    module = with_lived_in_batch_norm(kind())
    images = torch.rand(2, 3, 4, 4)
    network = prepare(module, images[:1])
    assert network.folding.unfolded == ("norm",)
    assert "float" in network.folding.statement
    # In another memory format, some processors add in another order.
    torch.testing.assert_close(network.module(images), module(images), rtol=1e-5, atol=1e-6)


def test_scale_is_range_over_largest_code_and_one_for_zeros() -> None:
    int_8 = number_format("INT_8")
    assert float(compute_scale(torch.tensor(254.0), int_8)) == 2.0
    assert float(compute_scale(torch.tensor(0.0), int_8)) == 1.0


LAYERS = [
    (nn.Linear(12, 5), (6, 12)),
    (nn.Linear(12, 5, bias=False), (6, 12)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 9, 9)),
    (nn.Conv2d(4, 8, 3, groups=4, dilation=2), (2, 4, 9, 9)),
    (nn.Conv1d(4, 6, 3), (2, 4, 9)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5)),
]


def dequantized(values: Tensor, max_abs: Tensor, known: NumberFormat) -> Tensor:
    scale = compute_scale(max_abs, known)
    return round_to_codes(values / scale, known).double() * scale.double()


def oracle(layer: nn.Module, inputs: Tensor, known: NumberFormat, scope: str) -> Tensor:
    """The layer in float64 on dequantized tensors: slow, and free of codes."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    weight = weight.detach()
    w = dequantized(weight, weight.abs().max(), known) if scope in ("all", "weight") else weight
    x = dequantized(inputs, inputs.abs().max(), known) if scope in ("all", "input") else inputs
    twin = type(layer).__new__(type(layer))
    twin.__dict__ = dict(layer.__dict__)
    parameters: dict[str, nn.Parameter | None] = {"weight": nn.Parameter(w.double()), "bias": None}
    if isinstance(bias, Tensor):
        b = bias.data.double()
        if scope in ("all", "bias"):
            scale = compute_scale(inputs.abs().max(), known).double()
            scale = scale * compute_scale(weight.abs().max(), known).double()
            b = round_to_codes(b / scale, bias_format(known.family)) * scale
        parameters["bias"] = nn.Parameter(b)
    twin._parameters = parameters
    with torch.inference_mode():
        out: Tensor = twin(x.double())
    return out


@pytest.mark.parametrize("scope", ["all", "weight", "bias", "input"])
@pytest.mark.parametrize("name", ["INT_3", "INT_16", "POT_4", "FLOAT_6_E3"])
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_twin_computes_what_dequantized_tensors_give(
    layer: nn.Module, shape: tuple[int, ...], name: str, scope: str
) -> None:
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    kept = inputs.clone()
    known = number_format(name)
    twin = QuantizedLayer(layer, "layer")
    coded = twin.code(InputRange.symmetric(inputs.abs().max()), known, PER_TENSOR_SYMMETRIC_MAX)
    twin.use_codes(coded, scope)
    with torch.inference_mode():
        found = twin.forward(inputs)
    expected = oracle(layer, inputs, known, scope)
    assert torch.allclose(
        found.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
    )
    assert torch.equal(inputs, kept)
    twin.use_float()
    with torch.inference_mode():
        assert torch.equal(twin.forward(inputs), layer(inputs))


class PerChannel(Scheme):
    """A scale for each output channel: a scheme that is to come."""

    def weight_max_abs(self, weight: Tensor) -> Tensor:
        return weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)


@pytest.mark.parametrize(("layer", "shape"), LAYERS[:4], ids=lambda value: type(value).__name__)
def test_another_granularity_fits_in(layer: nn.Module, shape: tuple[int, ...]) -> None:
    scheme = PerChannel("per_channel", "channel", "symmetric", "max", ("weight",), "none")
    known = number_format("INT_8")
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    twin = QuantizedLayer(layer, "layer")
    twin.use_codes(twin.code(InputRange.symmetric(inputs.abs().max()), known, scheme))
    with torch.inference_mode():
        expected, found = layer(inputs), twin.forward(inputs)
    weight = code_weight(twin.weight, known, scheme)
    assert weight.scale.numel() == twin.weight.shape[0]
    assert float((found - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_the_float_network_is_never_modified() -> None:
    torch.manual_seed(5)
    module = with_lived_in_batch_norm(REFERENCE_NETWORKS["AlexNet_BN"].build(width=0.0625))
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    images = torch.randn(4, 3, 32, 32)
    network = prepare(module, images[:1])
    ranges = input_ranges(network, [images])
    with torch.inference_mode():
        floats = network.module(images)
        for name in ("INT_4", "POT_5", "FLOAT_5_E3"):
            known = number_format(name)
            coded = {
                key: layer.code(ranges[key], known, PER_TENSOR_SYMMETRIC_MAX)
                for key, layer in network.layers.items()
            }
            network.use_codes(coded)
            assert not torch.equal(network.module(images), floats)
        network.use_float()
        assert torch.equal(network.module(images), floats)
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())


def test_layers_come_in_the_order_of_execution() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(3, 2), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.first(x))
            return out

    network = prepare(Backwards(), torch.randn(1, 4))
    assert list(network.layers) == ["first", "second"]


class Branched(nn.Module):
    """Two layers read one tensor, a third reads it after it was overwritten in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        together: Tensor = self.a(x) + self.b(x)
        x.relu_()
        out: Tensor = together + self.c(x)
        return out


def test_a_tensor_that_several_layers_read_is_coded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    module, inputs = Branched(), torch.randn(5, 4)
    network = prepare(module, inputs[:1])
    assert network.first_readers == {"a": "a", "b": "a", "c": "c"}
    ranges, known = input_ranges(network, [inputs]), number_format("INT_4")
    coded = {
        name: layer.code(ranges[name], known, PER_TENSOR_SYMMETRIC_MAX)
        for name, layer in network.layers.items()
    }
    rounded: list[Tensor] = []

    def round_and_count(
        values: Tensor, scale: Tensor, known: NumberFormat, *, keep_nan: bool
    ) -> Tensor:
        rounded.append(values)
        return scaled_codes(values, scale, known, keep_nan=keep_nan)

    monkeypatch.setattr("ptqdb.quantization.input_codes.scaled_codes", round_and_count)
    network.use_codes(coded)
    with torch.inference_mode():
        found = network.module(inputs)
        again = network.module(inputs)
    assert len(rounded) == 4
    x = inputs.double() * 2
    read = {"a": x.float(), "b": x.float(), "c": x.float().relu()}
    parts = [oracle(getattr(module, name), values, known, "all") for name, values in read.items()]
    expected = torch.stack(parts).sum(0)
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found, again)


def test_ranges_are_taken_over_all_batches() -> None:
    network = prepare(nn.Sequential(nn.Linear(1, 1)), torch.ones(1, 1))
    ranges = input_ranges(network, [torch.tensor([[1.0]]), torch.tensor([[-7.0]])])
    assert (float(ranges["0"].low), float(ranges["0"].high)) == (-7.0, 1.0)


def test_weights_that_are_not_finite_are_named() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data.fill_(torch.nan)
    with pytest.raises(DataError, match=r"0\.weight"):
        prepare(nn.Sequential(layer), torch.ones(1, 2))


def test_activations_that_are_not_finite_are_named() -> None:
    network = prepare(nn.Sequential(nn.Linear(1, 1)), torch.ones(1, 1))
    with pytest.raises(DataError, match="layer 0"):
        input_ranges(network, [torch.tensor([[torch.inf]])])


def test_formats_of_eight_significant_bits_may_run_in_bfloat16() -> None:
    low = {known.name for known in STUDY_GRID if known.significant_bits <= 8}
    assert {f"INT_{bits}" for bits in range(2, 10)} <= low
    assert not {f"INT_{bits}" for bits in range(10, 17)} & low
    assert {known.name for known in STUDY_GRID if known.family != "INT"} <= low
    assert choose_precision(number_format("INT_8"), CPU, "float32") == "float32"
    assert choose_precision(number_format("INT_10"), CPU) == "float32"


def test_every_code_of_such_formats_is_a_bfloat16() -> None:
    for known in STUDY_GRID:
        if known.significant_bits <= 8:
            codes = torch.from_numpy(known.magnitudes()).float()
            assert torch.equal(codes.bfloat16().float(), codes), known.name


@pytest.mark.skipif(not has_bfloat16_units(CPU), reason="no bfloat16 products on this CPU")
def test_the_low_precision_is_really_used_and_left_again() -> None:
    torch.manual_seed(6)
    layer, inputs = nn.Linear(512, 512), torch.randn(512, 512)
    with torch.inference_mode():
        with matrix_precision("float32"):
            exact = layer(inputs)
        with matrix_precision("bfloat16"):
            low = layer(inputs)
        after = layer(inputs)
    assert not torch.equal(low, exact)
    assert torch.allclose(low, exact, atol=0.1)
    assert torch.equal(after, exact)
