"""Every kind of layer and of network: what is quantized, what is not, and how much that is."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from oracles import count_macs, round_to_codes, softmax_divergence
from torch import Tensor, nn

from ptqdb.errors import DataError, UnsupportedLayerError
from ptqdb.measurement.facts import UnquantizedPart
from ptqdb.measurement.macs import count_work, layer_macs
from ptqdb.measurement.softmax_divergence import softmax_group_count
from ptqdb.measurement.tensors import channel_facts
from ptqdb.measurement.unquantized import unquantized_parts, unquantized_statement
from ptqdb.quantization.channels import by_output_channel
from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.network import QuantizedNetwork, input_ranges, prepare
from ptqdb.quantization.number_formats import number_format
from ptqdb.quantization.scales import compute_scale
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def in_format(network: QuantizedNetwork, inputs: Tensor, name: str) -> Tensor:
    """The outputs in a format that is calibrated on the same inputs."""
    ranges = input_ranges(network, [inputs])
    known = number_format(name)
    network.use_codes(
        {
            key: layer.code(ranges[key], known, PER_TENSOR_SYMMETRIC_MAX)
            for key, layer in network.layers.items()
        }
    )
    with torch.inference_mode():
        outputs: Tensor = network.module(inputs)
    network.use_float()
    return outputs


def parts_of(network: QuantizedNetwork, example: Tensor) -> dict[str, UnquantizedPart]:
    work = count_work(network.module, example)
    layer_macs(work, list(network.layers))
    return {part.name: part for part in unquantized_parts(network, work)}


# Layers: (layer, input, params, MACs for one image, by hand).

LAYERS: list[tuple[nn.Module, tuple[int, ...], int, int]] = [
    (nn.Conv1d(4, 6, 3, stride=2), (4, 9), 72 + 6, 72 * 4),
    (nn.Conv2d(1, 6, 3, padding=1, bias=False), (1, 5, 7), 54, 54 * 35),
    (nn.Conv2d(4, 8, 3, groups=2, dilation=2), (4, 9, 8), 144 + 8, 144 * 5 * 4),
    (nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 5, 5), 72 + 8, 72 * 25),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), (4, 5, 6), 144 + 4, 144 * 30),
    (nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect"), (4, 5, 6), 148, 144 * 30),
    (nn.Conv3d(2, 3, 2), (2, 3, 4, 5), 48 + 3, 48 * 2 * 3 * 4),
    (nn.ConvTranspose1d(4, 6, 3, stride=2), (4, 5), 72 + 6, 72 * 5),
    (nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2), (4, 3, 4), 108 + 6, 108 * 12),
    (nn.ConvTranspose3d(2, 3, 2), (2, 3, 3, 4), 48 + 3, 48 * 36),
    (nn.Linear(6, 5), (3, 6), 35, 30 * 3),
    (nn.Linear(6, 5, bias=False), (2, 3, 6), 30, 30 * 6),
]


def dequantized(values: Tensor, known: Any) -> Tensor:
    scale = compute_scale(values.abs().max(), known)
    return round_to_codes(values / scale, known).double() * scale.double()


@pytest.mark.parametrize(
    ("layer", "shape", "params", "macs"), LAYERS, ids=lambda value: type(value).__name__
)
def test_every_kind_of_layer(
    layer: nn.Module, shape: tuple[int, ...], params: int, macs: int
) -> None:
    inputs = random(3, *shape)
    network = prepare(nn.Sequential(layer), inputs[:1])
    assert network.layers["0"].param_count == params
    work = count_work(network.module, inputs[:1])
    assert layer_macs(work, ["0"]) == {"0": macs}
    assert unquantized_parts(network, work) == ()
    with torch.inference_mode():
        floats = layer(inputs)
        exact = copy.deepcopy(layer).double()
        known = number_format("INT_8")
        weight, bias = exact.weight, exact.bias
        assert isinstance(weight, Tensor)
        weight.copy_(dequantized(weight.float(), known))
        if isinstance(bias, Tensor):
            scale = compute_scale(inputs.abs().max(), known).double()
            scale = scale * compute_scale(network.layers["0"].weight.abs().max(), known).double()
            bias.copy_((bias / scale).round() * scale)
        expected = exact(dequantized(inputs, known))
    found = in_format(network, inputs, "INT_8")
    assert torch.allclose(found.double(), expected, atol=1e-5)
    close = in_format(network, inputs, "INT_16")
    assert float((close - floats).abs().max()) < 1e-3 * float(floats.abs().max())
    assert not torch.equal(close, floats)


def test_channels_of_a_grouped_transposed_convolution() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    facts = channel_facts(by_output_channel(layer, layer.weight.detach()))
    assert len(facts.sum_x2) == 6
    # Silence one output channel's elements: its output is its bias, and no other's changes.
    for channel in range(6):
        group, place = divmod(channel, 3)
        block = layer.weight.detach()[2 * group : 2 * group + 2, place]
        assert facts.sum_x2[channel] == pytest.approx(float(block.double().square().sum()))
        silent = copy.deepcopy(layer)
        silent.weight.data[2 * group : 2 * group + 2, place] = 0
        inputs = random(1, 4, 3, 3)
        with torch.inference_mode():
            changed = (silent(inputs) != layer(inputs)).flatten(2).any(-1)[0]
        assert changed.nonzero().flatten().tolist() == [channel]


@pytest.mark.parametrize(("shape", "groups"), [((4, 3, 2), 8), ((4, 3, 2, 2, 2), 32)])
def test_softmax_runs_over_dimension_one_of_any_weight(shape: tuple[int, ...], groups: int) -> None:
    a, b = random(*shape).double(), random(*shape, seed=1).double()
    assert softmax_group_count(a) == groups
    rows = [x.movedim(1, -1).reshape(groups, 3) for x in (a, b)]
    assert softmax_divergence(a, b) == pytest.approx(softmax_divergence(*rows))


# Networks.


class Residual(nn.Module):
    """A shared layer under two names, a branch, a sum, and an overwritten input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.shared
        self.branch, self.after = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.shared(x) + self.branch(x)
        x = self.relu(x)
        out: Tensor = self.after(x) + self.after(self.again(y) + x)
        return out


def test_shared_and_residual_layers() -> None:
    torch.manual_seed(0)
    module, inputs = Residual(), random(2, 3, 5, 6)
    network = prepare(module, inputs[:1])
    assert list(network.layers) == ["stem", "shared", "branch", "after"]
    macs = {"stem": 12 * 30, "shared": 2 * 144 * 30, "branch": 16 * 30, "after": 2 * 8 * 30}
    assert layer_macs(count_work(network.module, inputs[:1]), list(network.layers)) == macs
    assert network.layers["shared"].param_count == 148
    # `shared` reads two tensors: what it measures is not what `branch` alone reads
    assert network.first_readers["branch"] == "branch"
    with torch.inference_mode():
        floats = module(inputs)
    close = in_format(network, inputs, "INT_16")
    assert float((close - floats).abs().max()) < 1e-3 * float(floats.abs().max())


class Standardized(nn.Conv2d):
    """Its outputs do not grow with its weight."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.std()
        return functional.conv2d(x, weight, self.bias)


class Gained(nn.Conv2d):
    """A forward of its own, and a param of its own, that keep to proportions."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size)
        self.gain = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (1, 1, 1, 1))) * self.gain


class Odd(nn.Module):
    """One of each thing that is no quantized layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.colours = nn.Embedding(8, 4)
        self.gained, self.standardized = Gained(4, 4, 3), Standardized(4, 4, 1)
        self.norm, self.pre = nn.GroupNorm(2, 4), nn.BatchNorm2d(4)
        self.borrowed, self.spare = nn.Linear(4, 4), nn.Linear(4, 9)
        self.recurrent = nn.LSTM(4, 3, batch_first=True)
        self.bilinear = nn.Bilinear(3, 3, 2)
        self.free = nn.Parameter(torch.randn(2, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.colours((x[:, 0] > 0).long()).permute(0, 3, 1, 2) + self.table
        x = self.norm(self.standardized(self.gained(self.pre(x))))
        x = functional.linear(x.flatten(2).transpose(1, 2), self.borrowed.weight)
        x = self.recurrent(x @ x.transpose(1, 2) @ x)[0].mean(1)
        out: Tensor = self.head(self.bilinear(x, x) @ self.free)
        return out


def test_what_is_not_quantized_is_listed_with_its_reason() -> None:
    torch.manual_seed(0)
    module, inputs = Odd(), random(3, 1, 3, 2)
    network = prepare(module.eval(), inputs[:1])
    assert list(network.layers) == ["gained", "head"]
    parts = parts_of(network, inputs[:1])
    found = {name: (part.kind, part.params, part.macs) for name, part in parts.items()}
    assert found == {
        "table": ("Parameter", 4, 0),
        "colours": ("Embedding", 32, 0),
        "gained.gain": ("Parameter", 1, 0),
        "standardized": ("Standardized", 20, 16 * 6),
        "norm": ("GroupNorm", 8, 0),
        "pre": ("BatchNorm2d", 8, 0),
        "borrowed": ("Linear", 20, 16 * 6),
        "spare": ("Linear", 45, 0),
        "recurrent": ("LSTM", 4 * 3 * (4 + 3 + 2), None),
        "bilinear": ("Bilinear", 3 * 3 * 2 + 2, None),
        "free": ("Parameter", 10, 10),
        # (6, 4) @ (4, 6) @ (6, 4)
        "network": ("Odd", 0, 2 * 144),
    }
    reasons = {name: part.reason for name, part in parts.items()}
    assert reasons["spare"] == "never runs"
    assert reasons["borrowed"] == "its weight is read by a function"
    assert "scale with its weight" in reasons["standardized"]
    assert "batch norm" in reasons["pre"]
    assert "not counted" in reasons["recurrent"]
    layers = sum(layer.param_count for layer in network.layers.values())
    everything = sum(parameter.numel() for parameter in module.parameters())
    assert layers + sum(part.params for part in parts.values()) == everything
    assert "not all counted" in unquantized_statement(list(parts.values()), layers, 1)
    with torch.inference_mode():
        floats = module(inputs)
    close = in_format(network, inputs, "INT_16")
    assert float((close - floats).abs().max()) < 1e-3 * float(floats.abs().max())


def test_the_statement_gives_the_shares() -> None:
    parts = [UnquantizedPart(f"{i}", "LayerNorm", 5, 0, "") for i in range(2)]
    parts.append(UnquantizedPart("a", "Attention", 0, 25, ""))
    said = "not quantized: 10 % of the params, 20 % of the MACs (LayerNorm x2, Attention)"
    assert unquantized_statement(parts, 90, 100) == said
    assert unquantized_statement([], 90, 100) == ""


class TiedHead(nn.Module):
    """The embedding's table is the head's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.table(x.long()).mean(1))
        return out


def test_a_tied_weight_counts_once() -> None:
    example = torch.zeros(1, 3)
    network = prepare(TiedHead(), example)
    assert network.layers["head"].param_count == 24
    assert parts_of(network, example) == {}


@pytest.mark.parametrize(
    "module", [nn.Sequential(nn.LSTM(4, 4)), nn.Sequential(nn.ReLU())], ids=["LSTM", "ReLU"]
)
def test_nothing_to_quantize_is_refused(module: nn.Module) -> None:
    with pytest.raises(UnsupportedLayerError, match="nothing to quantize"):
        prepare(module, torch.zeros(1, 2, 4))


def test_a_single_layer_and_a_lazy_one() -> None:
    assert list(prepare(nn.Linear(3, 2), torch.ones(1, 3)).layers) == ["0"]
    with pytest.raises(DataError, match="lazy"):
        prepare(nn.Sequential(nn.LazyLinear(3)), torch.ones(1, 3))


class Asking(nn.Module):
    """Asks its layer what it is, and for what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.layer, nn.Linear)
        out: Tensor = self.layer(input=x) * self.layer.in_features
        return out


def test_a_layer_stays_what_it_is() -> None:
    module = Asking()
    network = prepare(module, torch.ones(1, 4))
    assert list(network.layers) == ["layer"]
    assert type(network.module.layer) is nn.Linear
    assert [name for name, _ in network.module.named_modules()] == ["", "layer"]
    assert network.module.state_dict().keys() == module.state_dict().keys()


# An independent INT_8: torch's own.

torchs_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def torchs_codes(values: Tensor, scale: float) -> Sequence[Tensor]:
    """Codes of torch.ao's primitives, from -127 to 127 about the zero point 0."""
    coded = torch.quantize_per_tensor(values, scale, 0, torch.qint8).int_repr().int()
    fake = torch.fake_quantize_per_tensor_affine(values, scale, 0, -127, 127)
    return coded, (fake / scale).round().int()


@torchs_warnings
@pytest.mark.parametrize("seed", range(8))
def test_int_8_codes_are_those_of_torch_ao(seed: int) -> None:
    from torch.ao.quantization import MinMaxObserver

    known = number_format("INT_8")
    values = random(64, 33, 3, 3, seed=seed) * 10.0 ** (seed - 4)
    found = code_weight(values, known, PER_TENSOR_SYMMETRIC_MAX)
    observer = MinMaxObserver(
        dtype=torch.qint8,
        qscheme=torch.per_tensor_symmetric,
        quant_min=-127,
        quant_max=127,
        eps=0.0,
    )
    observer(values)
    scale, zero_point = observer.calculate_qparams()
    assert int(zero_point) == 0
    assert float(scale) == pytest.approx(float(found.scale), rel=1e-6)
    for codes in torchs_codes(values, float(found.scale)):
        assert torch.equal(found.codes.int(), codes)


@torchs_warnings
def test_int_8_codes_of_the_shipped_weights_are_those_of_torch_ao() -> None:
    """All but 3 of 4.7 million, whose quotients lie next to a tie.

    torch multiplies by the float32 reciprocal of the scale, which rounds twice; ptqdb divides.
    With that product the codes are the same to the last one.
    """
    from safetensors.torch import load_file

    from ptqdb.resources import data_folder

    known = number_format("INT_8")
    differing = count = 0
    for path in sorted((data_folder() / "embedded").glob("*.safetensors")):
        for weight in load_file(path).values():
            if not weight.is_floating_point() or weight.ndim < 2:
                continue
            found = code_weight(weight, known, PER_TENSOR_SYMMETRIC_MAX)
            by_reciprocal = round_to_codes(weight * (1 / found.scale), known).int()
            for codes in torchs_codes(weight, float(found.scale)):
                assert torch.equal(by_reciprocal, codes)
            other = found.codes.int() != by_reciprocal
            exact = weight[other].double() / found.scale.double()
            assert torch.equal(exact.round().int(), found.codes[other].int())
            assert bool(((exact.abs() % 1 - 0.5).abs() < 1e-5).all())
            differing, count = differing + int(other.sum()), count + weight.numel()
    assert count > 4_000_000
    assert differing <= 3


def test_macs_of_plain_layers_need_no_quantized_network() -> None:
    assert count_macs(nn.Sequential(nn.Linear(4, 3)), torch.zeros(1, 4)) == {"0": 12}
