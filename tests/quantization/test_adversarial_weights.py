"""Every measure of every finite tensor: a value in its range, or NULL for a reason.

Tensors that float32 can hold and nobody trains: constant or nearly so, of two magnitudes, dead,
subnormal, next to infinity. They are weights and biases of parallel layers of one network, which
is collected; whatever `collect` writes satisfies every check.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_networks import Database
from torch import Tensor, nn

from ptqdb.database import connect, query
from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.layers import QuantizedLayer
from ptqdb.quantization.number_formats import number_format
from ptqdb.quantization.scales import compute_scale
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX

pytestmark = pytest.mark.slow

Floats = NDArray[np.float32]

FORMATS = (
    "INT_2", "INT_8", "INT_16", "POT_2", "POT_4", "POT_8",
    "FLOAT_3_E1", "FLOAT_4_E2", "FLOAT_8_E4", "FLOAT_8_E6",
)  # fmt: skip
LARGEST, TINY, SMALLEST = (
    float(value) for value in (np.finfo(np.float32).max, np.finfo(np.float32).tiny, 1.4e-45)
)
OUT, IN = 4, 12
UNBOUNDED = ("kl", "wasserstein")


def tensors() -> dict[str, Floats]:
    """By name, float32 (48,)."""
    count = OUT * IN
    noise = np.random.default_rng(0).normal(size=count).clip(-3, 3)
    sign, place = np.sign(noise), np.arange(count)
    one_ulp = float(np.nextafter(np.float32(0.3), np.float32(1)))
    found = {
        "normal": noise,
        "constant": np.full(count, 0.3),
        "negative constant": np.full(count, -0.3),
        "one unit in the last place": np.where(place == IN, one_ulp, 0.3),
        "nearly constant": 0.3 + 1e-6 * noise,
        "binary": 0.3 * sign,
        "binary with jitter": sign * (0.17477 + 1e-7 * noise),
        "two opposite": np.where(noise > 0, 0.17477264, -0.17477238),
        "zeros": np.zeros(count),
        "zeros of both signs": np.where(place % 2, 0.0, -0.0),
        "one of zeros": np.where(place == 0, -1.0, 0.0),
        "outlier": np.where(place == 0, 1.0, 1e-9 * noise),
        "large outlier": np.where(place == 0, -1e30, 1e-30 * noise),
        "dead rows": np.where(place < 2 * IN, noise, 1e-24 * noise),
        "below 1e-36": 1e-36 * noise,
        "below 1e-28": 1e-28 * noise,
        "smallest normal": TINY * sign,
        "just subnormal": 0.9 * TINY * sign,
        "subnormal": 1e-40 * noise,
        "smallest subnormal": SMALLEST * sign,
        "large": 1e38 * noise,
        "largest": LARGEST * sign,
        "large and small": np.where(place % 2, 1e38, 1e-38) * noise,
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


class Parallel(nn.Module):
    """Layers that read the same pixels; what they put out is added up."""

    def __init__(self, weights: Mapping[str, Floats], factor: float = 1.0) -> None:
        super().__init__()
        self.parts, self.factor = nn.ModuleDict(), factor
        for name, values in weights.items():
            part = self.parts[name] = nn.Linear(IN, OUT)
            with torch.no_grad():
                part.weight.copy_(torch.from_numpy(values).reshape(OUT, IN))
                part.bias.copy_(torch.from_numpy(values[::IN]))

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)[:, :IN] * self.factor
        return torch.stack([part(pixels) for part in self.parts.values()]).sum(0)


@pytest.fixture(scope="module", params=[1.0, 1e-38, 1e37])
def adversarial(
    request: pytest.FixtureRequest, empty_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    """All tensors in all formats, with inputs of three sizes; read-only."""
    db = Database(empty_file, tmp_path_factory.mktemp("adversarial"))
    outcome = db.collect(
        Parallel(tensors(), request.param), ",".join(FORMATS), scopes=("weight", "bias", "input")
    )
    assert (outcome.filled_count, outcome.failed_count) == (4 * len(FORMATS), 0)
    assert db.failed_checks() == {}
    with connect(db.path, read_only=True) as connection:
        yield connection


def test_every_materialized_measure_is_there_and_in_its_range(
    adversarial: duckdb.DuckDBPyConnection,
) -> None:
    expected = 2 * len(FORMATS) * len(tensors())
    rows = adversarial.execute(
        "select rescale, measure, count(*), min(value), max(value) from tensor_divergence "
        "group by all order by all"
    ).fetchall()
    assert len(rows) == 2 * 10 + 1
    for rescale, measure, count, smallest, largest in rows:
        assert count == expected, (rescale, measure)
        assert smallest >= 0, (rescale, measure)
        assert largest <= (np.finfo(np.float64).max if measure in UNBOUNDED else 1), measure


def test_distances_of_a_nearly_constant_tensor_are_in_units_of_it(
    adversarial: duckdb.DuckDBPyConnection,
) -> None:
    """Its deviation is lost in the rounding of the sums."""
    rows = adversarial.execute(
        "select distinct value from tensor_divergence join tensor using (tensor_id) "
        "join layer using (layer_id) where measure = 'wasserstein' and rescale = 'fakefreeze' "
        "and name in ('parts.one unit in the last place', 'parts.constant')"
    ).fetchall()
    assert all(0 <= value <= 2 for (value,) in rows)


@pytest.mark.parametrize("rescale", ["fakefreeze", "l2"])
@pytest.mark.parametrize("measure", ["nsr", "cosine", "pearson", "bits", "js_softmax"])
def test_every_paired_measure_is_a_number_in_its_range(
    adversarial: duckdb.DuckDBPyConnection, rescale: str, measure: str
) -> None:
    rows = adversarial.execute(
        f"select role, divergence from paired_measure('{rescale}', '{measure}') "
        "join tensor using (tensor_id)"
    ).fetchall()
    assert len(rows) == 3 * len(FORMATS) * len(tensors())
    for role, value in rows:
        if value is None:
            assert (measure, role) == ("js_softmax", "input")
        else:  # codes have the sign of what they stand for, and no cosine is negative
            assert 0 <= value <= 1 + 1e-9


def test_the_cosine_is_that_of_the_vectors(adversarial: duckdb.DuckDBPyConnection) -> None:
    """From the product of both, also where a bias is far past the largest code."""
    rows = adversarial.execute(
        "select divergence, sum_code_x / (sqrt(sum_codes2) * sqrt(sum_x2)) "
        "from paired_measure('l2', 'cosine') join tensor using (tensor_id) "
        "join quantized_tensor using (tensor_id, number_format_id, scheme_id) "
        "where sum_codes2 > 0 and role != 'input'"
    ).fetchall()
    assert rows
    for found, cosine in rows:
        assert found == pytest.approx(1 - cosine, abs=1e-9)


def test_views_have_finite_figures_or_null(adversarial: duckdb.DuckDBPyConnection) -> None:
    names = adversarial.execute(
        "select view_name from duckdb_views() where not internal and view_name in "
        "('tensor_shape', 'tensor_distribution', 'layer_divergence', 'format_frontier', "
        "'fakefreeze_flops', 'l2_flops_sharpness', 'fakefreeze_flops_sensitivity')"
    ).fetchall()
    calls = [
        f"variant(measure := '{measure}', bins := 273, rescale := 'l2', correction := '{word}')"
        for measure, word in (
            ("js", "pearson"), ("wasserstein", "coverage"), ("kl", "bincoverage"),
            ("nsr", "sharpness"), ("pearson", "rootfanin"), ("hellinger", "cosine"),
        )
    ]  # fmt: skip
    assert len(names) > 4
    for source in [name for (name,) in names] + calls:
        frame = query(adversarial, f"from {source}")
        assert len(frame), source
        for column in frame:
            if column.dtype.is_float():
                assert column.drop_nulls().is_finite().all(), (source, column.name)
            if column.name == "divergence":
                assert column.null_count() == 0, source


def test_shapes_are_those_of_the_tensors(adversarial: duckdb.DuckDBPyConnection) -> None:
    """The share within the mean is a number; a kurtosis is right or NULL."""
    rows = adversarial.execute(
        "select distinct layer, kurtosis, mean_range_share from tensor_shape where role = 'weight'"
    ).fetchall()
    for layer, kurtosis, share in rows:
        name = layer.removeprefix("parts.")
        values = tensors()[name].astype(np.float64)
        assert 0 <= share <= 1
        deviations = values - values.mean()
        if kurtosis is None:
            assert abs(deviations).max() <= 1e-5 * abs(values).max()
        else:
            expected = (deviations**4).mean() / (deviations**2).mean() ** 2
            assert kurtosis == pytest.approx(expected, rel=1e-3), name
    shares = {layer.removeprefix("parts."): share for layer, _, share in rows}
    assert shares["two opposite"] == 0
    assert shares["constant"] == 1


@pytest.mark.parametrize("name", FORMATS)
def test_scales_are_normal_numbers_and_nothing_is_clipped(name: str) -> None:
    known = number_format(name)
    for values in tensors().values():
        weight = torch.from_numpy(values)
        coded = code_weight(weight, known, PER_TENSOR_SYMMETRIC_MAX)
        scale, largest = float(coded.scale), float(abs(values).max())
        assert scale >= TINY
        assert abs(coded.codes).max() <= known.max_code
        if largest / known.max_code < TINY:
            assert scale == 1
            # POT_8 alone has codes that small
            assert not coded.codes.any() or name == "POT_8"
        else:
            assert scale == pytest.approx(largest / known.max_code)
            assert abs(coded.codes).max() == known.max_code


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scope", ["all", "weight", "input", "bias"])
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1.0, 1e30])
def test_a_layer_of_any_size_puts_out_what_its_codes_say(
    name: str, scope: str, size: float
) -> None:
    """In float64 from the codes; nowhere 0 times infinity, however large the scales."""
    torch.manual_seed(0)
    linear = nn.Linear(IN, OUT)
    with torch.no_grad():
        linear.weight.mul_(size)
        linear.weight[0] = 0
    layer = QuantizedLayer(linear, "layer")
    inputs = torch.randn(5, IN) * size
    inputs[0] = 0
    coded = layer.code(
        InputRange.symmetric(inputs.abs().amax()), number_format(name), PER_TENSOR_SYMMETRIC_MAX
    )
    layer.use_codes(coded, scope)
    with torch.inference_mode():
        found = layer.forward(inputs).double()
    expected = expected_outputs(layer, inputs, name, scope)
    representable = expected.abs() <= LARGEST
    assert torch.equal(found.isfinite(), representable)
    # sums of codes are float32: of INT_16 they lose a few digits, and subnormal ones all
    near = 1e-4 * float(expected[representable].abs().max()) + 1e-2 * TINY
    assert torch.allclose(found[representable], expected[representable], rtol=1e-4, atol=near)


def test_a_bias_past_what_its_scale_can_hold_stays_finite() -> None:
    """In units of a weight's scale of 8e-38, a bias of 30 is larger than any float32 number."""
    linear = nn.Linear(2, 1)
    with torch.no_grad():
        linear.weight.fill_(1e-35)
        linear.bias.fill_(30)
    layer = QuantizedLayer(linear, "layer")
    inputs = torch.ones(1, 2)
    coded = layer.code(
        InputRange.symmetric(torch.tensor(1.0)), number_format("INT_8"), PER_TENSOR_SYMMETRIC_MAX
    )
    layer.use_codes(coded, "weight")
    with torch.inference_mode():
        assert float(layer.forward(inputs)) == pytest.approx(LARGEST * float(coded.weight.scale))


def expected_outputs(layer: QuantizedLayer, inputs: Tensor, name: str, scope: str) -> Tensor:
    known = number_format(name)
    max_abs = inputs.abs().amax()
    coded = layer.code(InputRange.symmetric(max_abs), known, PER_TENSOR_SYMMETRIC_MAX)
    x, weight = inputs.double(), layer.weight.double()
    assert layer.bias is not None
    assert coded.bias is not None
    bias = layer.bias.double()
    if scope in ("all", "input"):
        scale = compute_scale(max_abs, known)
        magnitudes = torch.from_numpy(known.magnitudes())
        grid = torch.cat([-magnitudes.flip(0), magnitudes])
        quotients = (inputs / scale).double()
        x = grid[(quotients[..., None] - grid).abs().argmin(-1)] * scale.double()
    if scope in ("all", "weight"):
        weight = coded.weight.codes.double() * coded.weight.scale.double()
    if scope in ("all", "bias"):
        bias = coded.bias.codes * coded.bias.scale
    return x @ weight.T + bias


def test_a_layer_without_outputs_stays_in_floating_point(db: Database) -> None:
    class Empty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.none, self.head = nn.Linear(64, 1), nn.Linear(64, 4)
            self.none.weight = nn.Parameter(torch.empty(0, 64))
            self.none.bias = nn.Parameter(torch.empty(0))

        def forward(self, images: Tensor) -> Tensor:
            pixels = images.flatten(1)
            return torch.cat([self.none(pixels), self.head(pixels)], 1)

    assert db.collect(Empty(), "INT_8,POT_4").failures == []
    assert db.rows("select name from layer") == [("head",)]
    assert db.failed_checks() == {}


@pytest.fixture
def db(empty_file: Path, tmp_path: Path) -> Database:
    return Database(empty_file, tmp_path)


# A network's weights, layer by layer: a kind of values, their size, and a share of dead channels.
SIZES = st.sampled_from([0.0, 1e-45, 1e-40, 1e-38, 1e-30, 1e-20, 1e-3, 1.0, 1e4, 1e18, 1e38])
KINDS = st.sampled_from(["normal", "constant", "two opposite", "outlier", "nearly constant"])
LAYERS = st.lists(st.tuples(KINDS, SIZES, SIZES, st.booleans()), min_size=3, max_size=3)


class Small(nn.Module):
    """A convolution, a depthwise one and a head."""

    def __init__(self, layers: list[tuple[str, float, float, bool]]) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4)
        self.head = nn.Linear(4, 4)
        parts: tuple[nn.Conv2d | nn.Linear, ...] = (self.stem, self.depthwise, self.head)
        for part, (kind, size, bias_size, is_dead) in zip(parts, layers, strict=True):
            values = torch.from_numpy(tensors()[kind]).clamp(-1, 1)
            with torch.no_grad():
                part.weight.copy_(values[: part.weight.numel()].reshape(part.weight.shape) * size)
                part.weight[1:] *= 1e-24 if is_dead else 1
                assert part.bias is not None
                part.bias.copy_(values[:4] * bias_size)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.depthwise(torch.relu(self.stem(images))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(layers=LAYERS)
def test_whatever_the_weights_collect_satisfies_check(
    empty_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    layers: list[tuple[str, float, float, bool]],
) -> None:
    db = Database(empty_file, tmp_path_factory.mktemp("whatever"))
    outcome = db.collect(Small(layers), "INT_8,POT_8,FLOAT_8_E6", count=6)
    if outcome.failures:  # the float network itself overflows on the calibration images
        assert "expected finite activations" in outcome.failures[0].reason
    else:
        assert (outcome.filled_count, outcome.failed_count) == (3, 0)
        assert db.rows("select count(*) from network") == [(1,)]
    assert set(db.failed_checks()) <= ({"missing_announced_cell"} if outcome.failures else set())
