"""The deployed number formats, to the bit, against `ml_dtypes`, `torch.float8` and a formula."""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracles import round_to_codes
from scipy.stats import norm
from torch import nn

from ptqdb.errors import DataError, UsageError
from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.formats import PRESETS, find_format, match_formats
from ptqdb.quantization.number_formats import STUDY_GRID, number_format
from ptqdb.quantization.precision import choose_precision
from ptqdb.quantization.rounding import round_to_codes_, scaled_codes

EIGHT_BITS: dict[str, tuple[Any, torch.dtype]] = {
    "FLOAT_8_E4M3FN": (ml_dtypes.float8_e4m3fn, torch.float8_e4m3fn),
    "FLOAT_8_E5M2": (ml_dtypes.float8_e5m2, torch.float8_e5m2),
}
SMALL: dict[str, Any] = {
    "FLOAT_4_E2": ml_dtypes.float4_e2m1fn,
    "FLOAT_6_E2": ml_dtypes.float6_e2m3fn,
    "FLOAT_6_E3": ml_dtypes.float6_e3m2fn,
}
NF_4 = number_format("NF_4")


def probes(name: str) -> torch.Tensor:
    """Every code, every midpoint, their neighbours in float32, random values and extremes."""
    codes = number_format(name).codes()
    marks = np.concatenate([codes, (codes[:-1] + codes[1:]) / 2]).astype(np.float32)
    generator = np.random.default_rng(0)
    limits = np.finfo(np.float32)
    extremes = np.array([limits.max, limits.tiny, limits.smallest_subnormal, 0.0])
    parts = [
        *(marks, np.nextafter(marks, np.float32(np.inf)), np.nextafter(marks, np.float32(-np.inf))),
        generator.uniform(-1.2 * codes[-1], 1.2 * codes[-1], 2000),
        np.exp2(generator.uniform(-20, 18, 2000)) * generator.choice([-1, 1], 2000),
        *(extremes, -extremes),
    ]
    return torch.from_numpy(np.concatenate([np.asarray(part, np.float32) for part in parts]))


def test_names_outside_the_grid() -> None:
    for name in (*EIGHT_BITS, "NF_4"):
        known = number_format(name)
        assert known.name == name
        assert not known.is_in_study_grid
    assert len(match_formats("*")) == len(STUDY_GRID) == 43
    assert "FLOAT_8_E5M2" not in [each.name for each in match_formats("FLOAT_8_E5*")]
    with pytest.raises(UsageError, match=r"the closest are FLOAT_8_E4M3FN, .* and NF_4$"):
        number_format("FLOAT_8_E4M3")
    for wrong in ("NF_3", "FLOAT_8_E4M3FNUZ", "FLOAT_8_E3M4"):
        with pytest.raises(UsageError, match="no number format is named"):
            number_format(wrong)


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_codes_are_the_finite_ones_of_ml_dtypes(name: str) -> None:
    every = np.arange(256, dtype=np.uint8).view(EIGHT_BITS[name][0]).astype(np.float64)
    finite = np.unique(every[np.isfinite(every)])  # unique: both zeros are one code
    known = number_format(name)
    np.testing.assert_array_equal(known.codes(), finite)
    assert known.code_count == len(finite)
    assert known.max_code == finite[-1] == torch.finfo(EIGHT_BITS[name][1]).max
    assert known.unit == finite[finite > 0][0]


def test_largest_codes_and_their_count() -> None:
    found = [number_format(name) for name in EIGHT_BITS]
    assert [each.max_code for each in found] == [448, 57344]
    assert [each.code_count for each in found] == [253, 247]
    assert [(each.bits, each.ebits, each.mbits) for each in found] == [(8, 4, 3), (8, 5, 2)]


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_eight_bits_round_like_ml_dtypes_and_torch(name: str) -> None:
    """Theirs make NaN or infinity of what is too large; ours saturates first."""
    of_numpy, of_torch = EIGHT_BITS[name]
    values, largest = probes(name), number_format(name).max_code
    found = round_to_codes(values, number_format(name))
    saturated = values.clamp(-largest, largest)
    expected = saturated.numpy().astype(of_numpy).astype(np.float32)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert torch.equal(found, saturated.to(of_torch).float())
    assert not np.isfinite(np.float32(2 * largest).astype(of_numpy))  # why to saturate first


@pytest.mark.parametrize("name", SMALL)
def test_small_floats_round_like_ml_dtypes(name: str) -> None:
    values = probes(name)
    expected = values.numpy().astype(SMALL[name]).astype(np.float32)
    np.testing.assert_array_equal(round_to_codes(values, number_format(name)).numpy(), expected)


def test_codes_of_every_family_ascend_through_zero() -> None:
    for known in (*STUDY_GRID, *map(number_format, (*EIGHT_BITS, "NF_4"))):
        codes = known.codes()
        assert len(codes) == known.code_count
        assert np.all(np.diff(codes) > 0)
        assert (0 in codes, codes[-1], codes[0]) == (True, known.max_code, -known.max_code)
        whole = codes / known.unit
        np.testing.assert_array_equal(whole, np.round(whole))


def test_normal_float_is_made_of_quantiles() -> None:
    """Of the normal distribution, as QLoRA has them; published with the noise of float32."""
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    upper = norm.ppf(np.linspace(outermost, 0.5, 9)[:-1])
    lower = -norm.ppf(np.linspace(outermost, 0.5, 8)[:-1])
    quantiles = np.sort(np.concatenate([upper, [0], lower]))
    np.testing.assert_allclose(NF_4.codes(), quantiles / quantiles[-1], rtol=0, atol=2e-7)
    np.testing.assert_array_equal(NF_4.codes(), NF_4.codes().astype(np.float32))


def test_normal_float_is_not_symmetric() -> None:
    assert (NF_4.family, NF_4.bits, NF_4.ebits, NF_4.mbits) == ("NF", 4, None, None)
    assert (NF_4.code_count, NF_4.max_code) == (16, 1.0)
    assert not np.isin(-NF_4.codes(), NF_4.codes())[1:7].any()
    with pytest.raises(UsageError, match=r"found NF_4, .*; use codes\(\) instead"):
        NF_4.magnitudes()


def test_normal_float_needs_float32() -> None:
    """Its codes have 24 significant bits and are no multiples of a byte's unit."""
    assert not NF_4.fits_bytes
    assert choose_precision(NF_4, torch.device("cpu")) == "float32"


def test_normal_float_takes_the_smaller_of_two_equally_near_codes() -> None:
    """In float64 the middle is exact; its neighbours go to either side."""
    codes = torch.from_numpy(NF_4.codes())
    middle = (codes[:-1] + codes[1:]) / 2
    assert torch.equal(round_to_codes(middle, NF_4), codes[:-1])
    assert torch.equal(round_to_codes(middle.nextafter(codes[:-1]), NF_4), codes[:-1])
    assert torch.equal(round_to_codes(middle.nextafter(codes[1:]), NF_4), codes[1:])


@pytest.mark.parametrize("name", ["NF_4", *EIGHT_BITS])
def test_infinities_saturate_and_nan_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqdb.quantization.rounding.CHUNK_ELEMENTS", 3)
    known = number_format(name)
    values = torch.tensor([math.inf, -math.inf, 0.0, math.nan, 1.0, -math.nan])
    found = round_to_codes(values, known, keep_nan=True)
    assert found[:3].tolist() == [known.max_code, -known.max_code, 0.0]
    assert found.isnan().tolist() == [False, False, False, True, False, True]
    before = values.clone()
    with pytest.raises(DataError, match="found NaN"):
        round_to_codes_(values, known)
    assert torch.equal(values.nan_to_num(), before.nan_to_num())
    with pytest.raises(DataError, match="found NaN"):
        scaled_codes(values, torch.tensor(2.0), known)


def test_normal_float_rounds_any_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqdb.quantization.rounding.CHUNK_ELEMENTS", 100)
    values = torch.randn(6, 5, 7, 9, generator=torch.Generator().manual_seed(0))
    last = values.to(memory_format=torch.channels_last)
    scale = values.abs().amax()
    for view in (values, last, last[:, ::2], values.transpose(0, 3), values[0, 0, 0, 0]):
        quotients = (view / scale).double().numpy()
        codes = NF_4.codes()
        nearest: NDArray[np.float64] = codes[np.abs(quotients[..., None] - codes).argmin(-1)]
        np.testing.assert_array_equal(scaled_codes(view, scale, NF_4).numpy(), nearest)


def test_powers_of_two_are_the_scales_of_microscaling() -> None:
    """E8M0: 2^e for e from -127 to 127, as `ml_dtypes` and torch have it; the last code is NaN."""
    codes = np.arange(255, dtype=np.uint8)
    expected = np.exp2(np.arange(-127.0, 128.0))
    np.testing.assert_array_equal(codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float64), expected)
    of_torch = torch.from_numpy(codes).view(torch.float8_e8m0fnu).double().numpy()
    np.testing.assert_array_equal(of_torch, expected)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_weights_that_are_not_finite_are_refused(name: str, wrong: float) -> None:
    known, weight = find_format(name), torch.ones(2, 70)
    weight[1, 69] = wrong
    with pytest.raises(DataError, match="expected finite weights"):
        code_weight(weight, known.number_format, known.scheme)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 9), (2, 257), (4, 3, 5)])
def test_blocks_may_be_tiny(name: str, shape: tuple[int, ...]) -> None:
    """Constants survive in every block, however short; what a scale cannot hold becomes zero."""
    known = find_format(name)
    layer = nn.Linear(1, 1) if len(shape) == 2 else nn.Conv1d(1, 1, 1)
    layer.weight = nn.Parameter(torch.empty(shape))
    for constant, error in [(0.0, 0.0), (1e-30, 1.001e-30), (-0.3, 0.051)]:
        weight = torch.full(shape, constant)
        coded = code_weight(weight, known.number_format, known.scheme, layer)
        values = coded.dequantized(layer)
        assert (values.shape, values.dtype) == (weight.shape, torch.float32)
        assert float((values - weight).abs().max()) <= error
