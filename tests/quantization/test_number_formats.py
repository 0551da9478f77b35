"""Number formats: their codes, their names, and rounding, against tables and `ml_dtypes`."""

import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import round_to_codes

from ptqdb.errors import DataError, UsageError
from ptqdb.quantization.formats import STUDY_FORMATS, match_formats
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat, bias_format, number_format
from ptqdb.quantization.rounding import round_to_codes_, scaled_codes

Doubles = NDArray[np.float64]

DTYPES = [torch.float32, torch.float64]
NUMPY_DTYPES: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
# Beside the grid: the listable bias format, formats without mantissa bits, and those with NaN.
LISTABLE = [
    *STUDY_GRID,
    *map(number_format, ["FLOAT_8_E4M3FN", "FLOAT_8_E5M2"]),
    *map(number_format, ["FLOAT_16_E7", "FLOAT_2_E1", "FLOAT_3_E2", "FLOAT_4_E3", "FLOAT_6_E5"]),
]
# The OCP elements in which every code is finite, by the names that `ml_dtypes` gives them.
OCP_ELEMENTS = {
    "FLOAT_4_E2": ml_dtypes.float4_e2m1fn,
    "FLOAT_6_E2": ml_dtypes.float6_e2m3fn,
    "FLOAT_6_E3": ml_dtypes.float6_e3m2fn,
}
# The same spacing, but the topmost binade (E5M2) or code (E4M3) is infinity or NaN.
OCP_ELEMENTS_WITH_NAN = {"FLOAT_8_E4": ml_dtypes.float8_e4m3fn, "FLOAT_8_E5": ml_dtypes.float8_e5m2}

formats = st.sampled_from(LISTABLE)
small_formats = st.sampled_from([each for each in LISTABLE if each.bits <= 8])


def values_of(width: int) -> st.SearchStrategy[float]:
    """Values at which codes are dense, and any others."""
    anywhere = st.floats(allow_nan=False, width=64 if width == 64 else 32)
    return st.one_of(anywhere, st.floats(-20.0, 20.0, width=64 if width == 64 else 32))


def rounded(values: Any, number_format: NumberFormat, dtype: torch.dtype) -> Doubles:
    codes = round_to_codes(torch.as_tensor(values, dtype=dtype), number_format)
    assert codes.dtype == dtype
    return codes.double().numpy()


def nearest_code(values: Doubles, number_format: NumberFormat) -> Doubles:
    """Nearest codes by a search among the midpoints, which float64 holds exactly."""
    magnitudes = number_format.magnitudes()
    midpoints = (magnitudes[:-1] + magnitudes[1:]) / 2
    below = np.searchsorted(midpoints, np.abs(values), side="left")
    is_tie = midpoints[np.minimum(below, len(midpoints) - 1)] == np.abs(values)
    goes_up = below > 0 if number_format.family == "POT" else below % 2 == 1
    codes: Doubles = np.copysign(magnitudes[below + (is_tie & goes_up)], values)
    return codes


def probes(number_format: NumberFormat, dtype: torch.dtype) -> Doubles:
    """Codes, midpoints, their neighbours in the dtype, random values, extremes; both signs."""
    numpy_dtype = NUMPY_DTYPES[dtype]
    generator = np.random.default_rng(number_format.bits)
    magnitudes = number_format.magnitudes()
    largest, smallest = magnitudes[-1], magnitudes[1]
    midpoints = (magnitudes[:-1] + magnitudes[1:]) / 2
    marks = np.concatenate([magnitudes, midpoints]).astype(numpy_dtype)
    np.testing.assert_array_equal(marks.astype(np.float64)[len(magnitudes) :], midpoints)
    limits = np.finfo(numpy_dtype)
    magnitude_range = np.log2(smallest) - 3, np.log2(largest) + 3
    with np.errstate(over="ignore", under="ignore"):
        parts = [
            marks,
            np.nextafter(marks, numpy_dtype(np.inf)),
            np.nextafter(marks, numpy_dtype(0)),
            generator.uniform(0, 1.2 * largest, 500),
            np.exp2(generator.uniform(*magnitude_range, 500)),
            [limits.max, limits.tiny, limits.smallest_subnormal, 3 * limits.tiny / 2, np.inf],
        ]
        values = np.concatenate([np.asarray(part, dtype=numpy_dtype) for part in parts])
    return np.concatenate([values, -values]).astype(np.float64)


def test_grid_has_43_formats_in_order() -> None:
    families = [each.family for each in STUDY_GRID]
    assert (families.count("INT"), families.count("POT"), families.count("FLOAT")) == (15, 7, 21)
    assert len({each.name for each in STUDY_GRID}) == len(STUDY_GRID) == 43
    names = [each.name for each in STUDY_GRID]
    assert (names[0], names[14], names[15], names[21]) == ("INT_2", "INT_16", "POT_2", "POT_8")
    assert names[22:28] == [
        *("FLOAT_3_E1", "FLOAT_4_E1", "FLOAT_4_E2"),
        *("FLOAT_5_E1", "FLOAT_5_E2", "FLOAT_5_E3"),
    ]
    assert names[-1] == "FLOAT_8_E6"
    assert all(number_format(each.name) == each and each.is_in_study_grid for each in STUDY_GRID)


@pytest.mark.parametrize(
    ("name", "magnitudes"),
    [
        ("INT_2", [0, 1]),
        ("INT_3", [0, 1, 2, 3]),
        ("POT_2", [0, 1]),
        ("POT_3", [0, 0.25, 0.5, 1]),  # i from -2^2 + 2 = -2
        ("FLOAT_2_E1", [0, 2]),  # field 1, bias 0
        ("FLOAT_3_E1", [0, 1, 2, 3]),  # 0.5 * 2^1 is subnormal
        ("FLOAT_3_E2", [0, 1, 2, 4]),  # 2^(field - 1)
        ("FLOAT_5_E3", [0, 0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24]),
    ],
)
def test_magnitudes_written_out(name: str, magnitudes: list[float]) -> None:
    assert number_format(name).magnitudes().tolist() == magnitudes


@pytest.mark.parametrize("each", LISTABLE, ids=lambda each: each.name)
def test_properties_agree_with_the_magnitudes(each: NumberFormat) -> None:
    magnitudes = each.magnitudes()
    assert np.all(np.diff(magnitudes) > 0)
    assert magnitudes[0] == 0
    assert each.max_code == magnitudes[-1]
    assert each.code_count == 2 * len(magnitudes) - 1
    # The significant bits of n / 2^k in lowest terms are those of the odd part of n.
    ratios = [float(magnitude).as_integer_ratio()[0] for magnitude in magnitudes[1:]]
    needed = [(ratio // (ratio & -ratio)).bit_length() for ratio in ratios]
    assert max(needed) <= each.significant_bits
    # Reached by all but the formats whose largest significand does not come up.
    assert max(needed) == each.significant_bits


def test_bias_formats() -> None:
    assert bias_format("POT") == number_format("POT_8")
    assert bias_format("POT").magnitudes()[1] == 2.0**-126
    wide = bias_format("FLOAT")
    # Bias 63, 8 mantissa bits: 2^(1 - 63 - 8), and 2^(127 - 63) * (2 - 2^-8).
    assert (wide.name, wide.magnitudes()[1]) == ("FLOAT_16_E7", 2.0**-70)
    assert wide.max_code == 2.0**64 * (511 / 256)
    integers = bias_format("INT")
    assert (integers.name, integers.code_count) == ("INT_64", 2**64 - 1)
    assert integers.max_code < 2**63 <= math.nextafter(integers.max_code, math.inf)
    assert [each.is_in_study_grid for each in (integers, wide)] == [False, False]
    with pytest.raises(UsageError, match=r"'INT_8'; choose from INT, POT, FLOAT"):
        bias_format("INT_8")


def test_max_code_is_exact_as_far_as_float64_is() -> None:
    assert number_format("INT_54").max_code == 2**53 - 1
    assert number_format("INT_55").max_code == 2**54 - 2


def test_too_many_codes_are_not_listed() -> None:
    with pytest.raises(UsageError, match="at most 16 bits, found INT_17"):
        number_format("INT_17").magnitudes()


@pytest.mark.parametrize(
    "name",
    [
        *("", "int_8", "INT8", "INT_1", "INT_65", "INT_08", "INT_8_E4", "XINT_8", "INT_8\n"),
        *("INT_\u0668", "INT_" + "9" * 5000, "POT_1", "POT_12", "FLOAT_8", "FLOAT_8_E0"),
        *("FLOAT_8_E8", "FLOAT_33_E5", "FLOAT_32_E11"),
    ],
)
def test_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"no number format is named .* the closest are"):
        number_format(name)


def test_refusal_lists_the_closest_first() -> None:
    with pytest.raises(UsageError, match=r"the closest are INT_8, .*; valid are INT_b"):
        number_format("int8")
    with pytest.raises(UsageError, match="the closest are FLOAT_8_E4, "):
        number_format("FLOAT8_E4")


def test_matching() -> None:
    assert match_formats("*") == STUDY_FORMATS
    assert [each.name for each in match_formats("FLOAT_*_E2,INT_4, INT_4")] == [
        *("INT_4", "FLOAT_4_E2", "FLOAT_5_E2", "FLOAT_6_E2", "FLOAT_7_E2", "FLOAT_8_E2"),
    ]
    for patterns, culprit in [("INT_8,INT_64", "INT_64"), ("pot_*", "pot_*"), ("INT_8,", "")]:
        with pytest.raises(UsageError) as refusal:
            match_formats(patterns)
        assert f"found {culprit!r}, which matches none" in str(refusal.value)


def test_number_formats_need_no_torch() -> None:
    program = "import sys, ptqdb.quantization.number_formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("name", "element"), OCP_ELEMENTS.items())
def test_codes_are_those_of_ml_dtypes(name: str, element: Any) -> None:
    encodings = np.arange(2 ** (number_format(name).bits - 1), dtype=np.uint8)
    expected = encodings.view(element).astype(np.float64)
    np.testing.assert_array_equal(number_format(name).magnitudes(), expected)


@pytest.mark.parametrize(("name", "element"), (OCP_ELEMENTS | OCP_ELEMENTS_WITH_NAN).items())
def test_rounding_is_that_of_ml_dtypes(name: str, element: Any) -> None:
    values = probes(number_format(name), torch.float32)
    if name in OCP_ELEMENTS_WITH_NAN:
        encodings = np.arange(128, dtype=np.uint8).view(element).astype(np.float64)
        values = values[np.abs(values) <= encodings[np.isfinite(encodings)].max()]
    expected = values.astype(np.float32).astype(element).astype(np.float64)
    np.testing.assert_array_equal(rounded(values, number_format(name), torch.float32), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bits", range(3, 9))
def test_float_with_one_exponent_bit_is_a_scaled_int(bits: int, dtype: torch.dtype) -> None:
    one_bit, integer = number_format(f"FLOAT_{bits}_E1"), number_format(f"INT_{bits}")
    factor = 2.0 ** (3 - bits)
    np.testing.assert_array_equal(one_bit.magnitudes(), integer.magnitudes() * factor)
    values = probes(integer, dtype)
    expected = rounded(values, integer, dtype) * factor
    np.testing.assert_array_equal(rounded(values * factor, one_bit, dtype), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("each", LISTABLE, ids=lambda each: each.name)
def test_every_code_stays_itself(each: NumberFormat, dtype: torch.dtype) -> None:
    codes = np.concatenate([-each.magnitudes()[::-1], each.magnitudes()])
    np.testing.assert_array_equal(rounded(codes, each, dtype), codes)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("each", LISTABLE, ids=lambda each: each.name)
def test_rounding_agrees_with_a_search(each: NumberFormat, dtype: torch.dtype) -> None:
    values = probes(each, dtype)
    np.testing.assert_array_equal(rounded(values, each, dtype), nearest_code(values, each))


def test_ties_written_out() -> None:
    for name, values, codes in [
        ("INT_4", [0.5, 1.5, 2.5, -2.5, 6.5, 7.5], [0, 2, 2, -2, 6, 7]),
        ("POT_3", [0.125, 0.375, 0.75, -0.75], [0, 0.5, 1, -1]),
        ("POT_8", [2.0**-127, 1.5 * 2.0**-126], [0, 2.0**-125]),
        ("FLOAT_4_E2", [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5], [0, 1, 1, 2, 2, 4, 4]),
        # Codes 0, 1, 2, 4 have the indices 0, 1, 2, 3: 3 lies between the indices 2 and 3.
        ("FLOAT_3_E2", [0.5, 1.5, 3.0, -3.0], [0, 2, 2, -2]),
    ]:
        for dtype in DTYPES:
            assert rounded(values, number_format(name), dtype).tolist() == codes


def test_exponents_at_the_ends_of_float64() -> None:
    lowest = 2.0**-1022  # POT_11's smallest code
    values = [lowest / 2, math.nextafter(lowest / 2, 1), 1.5 * lowest, 2.0**-1074, 1e300]
    codes = rounded(values, number_format("POT_11"), torch.float64)
    assert codes.tolist() == [0, lowest, 2 * lowest, 0, 1]
    widest = number_format("FLOAT_32_E10")
    assert widest.max_code == 2.0**512 * (2 - 2.0**-21)
    ulp = 2.0 ** (512 - 21)
    values = [widest.max_code, widest.max_code - 0.75 * ulp, 1e308, 2.0**512 + 1.5 * ulp]
    expected = [widest.max_code, widest.max_code - ulp, widest.max_code, 2.0**512 + 2 * ulp]
    assert rounded(values, widest, torch.float64).tolist() == expected


def test_int_64_saturates_below_its_bound() -> None:
    values = [2.0**53 + 2, 0.5, -1.5, 2.0**62, 2.0**63, -1e300, math.inf]
    largest = 2.0**63 - 1024
    expected = [2.0**53 + 2, 0, -2, 2.0**62, largest, -largest, largest]
    assert rounded(values, number_format("INT_64"), torch.float64).tolist() == expected


@given(value=values_of(32), each=small_formats, dtype=st.sampled_from(DTYPES))
def test_no_code_is_nearer(value: float, each: NumberFormat, dtype: torch.dtype) -> None:
    code = rounded([value], each, dtype)[0]
    clipped = Fraction(min(max(value, -each.max_code), each.max_code))
    distances = [abs(Fraction(float(other)) - abs(clipped)) for other in each.magnitudes()]
    assert abs(Fraction(float(code)) - clipped) == min(distances)


@given(values=st.lists(values_of(32), min_size=2, max_size=20), each=formats)
def test_rounding_is_monotone_odd_and_idempotent(values: list[float], each: NumberFormat) -> None:
    ascending = np.sort(values)
    for dtype in DTYPES:
        codes = rounded(ascending, each, dtype)
        assert np.all(np.diff(codes) >= 0)
        np.testing.assert_array_equal(rounded(-ascending, each, dtype), -codes)
        np.testing.assert_array_equal(rounded(codes, each, dtype), codes)
        assert np.all(np.isin(np.abs(codes), each.magnitudes()))


@given(values=st.lists(values_of(64), min_size=1, max_size=20), each=formats)
def test_float64_is_not_rounded_to_float32_first(values: list[float], each: NumberFormat) -> None:
    doubles = np.array(values)
    expected = nearest_code(doubles, each)
    np.testing.assert_array_equal(rounded(doubles, each, torch.float64), expected)


@pytest.mark.parametrize("name", ["INT_8", "POT_4", "FLOAT_8_E4", "FLOAT_4_E3"])
def test_shapes_strides_and_places(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    each = number_format(name)
    # Several chunks, the last one short, however many threads there are.
    monkeypatch.setattr("ptqdb.quantization.rounding.CHUNK_ELEMENTS", 100)
    values = torch.linspace(-9.0, 9.0, 7 * 5003).reshape(7, 5003)
    expected = nearest_code(values.double().numpy(), each)
    before = values.clone()
    for view in (values, values.T, values[:, ::2], values[3, 7], values[:0]):
        codes = round_to_codes(view, each)
        assert codes.shape == view.shape
    np.testing.assert_array_equal(round_to_codes(values.T, each).numpy(), expected.T)
    np.testing.assert_array_equal(values.numpy(), before.numpy())
    transposed = values.clone().T
    assert round_to_codes_(transposed, each) is transposed
    np.testing.assert_array_equal(transposed.numpy(), expected.T)
    every_other = values.clone()
    round_to_codes_(every_other[:, ::2], each)
    np.testing.assert_array_equal(every_other[:, ::2].numpy(), expected[:, ::2])
    np.testing.assert_array_equal(every_other[:, 1::2].numpy(), before[:, 1::2].numpy())
    single = torch.tensor(-0.9, dtype=torch.float64)
    assert round_to_codes_(single, each).item() == nearest_code(single.numpy(), each)


@pytest.mark.parametrize("name", ["INT_8", "INT_16", "POT_4", "FLOAT_8_E4", "FLOAT_4_E3"])
def test_scaled_codes_are_those_of_a_division_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, whatever the strides: 100 elements to a chunk, the last one short."""
    monkeypatch.setattr("ptqdb.quantization.rounding.CHUNK_ELEMENTS", 100)
    each, generator = number_format(name), torch.Generator().manual_seed(0)
    values = torch.randn(6, 5, 7, 9, generator=generator)
    last = values.to(memory_format=torch.channels_last)
    scale = values.abs().amax() / each.max_code
    for view in (
        values,
        last,
        values.transpose(0, 3),
        last[:, ::2],
        values[0, 0, 0, 0],
        values[:0],
    ):
        expected = nearest_code((view / scale).double().numpy(), each)
        codes = scaled_codes(view, scale, each)
        np.testing.assert_array_equal(codes.numpy(), expected)
        kept = torch.full(view.shape, math.nan)
        assert scaled_codes(view, scale, each, out=kept) is kept
        np.testing.assert_array_equal(kept.numpy(), expected)
    assert scaled_codes(last, scale, each).is_contiguous(memory_format=torch.channels_last)
    by_channel = scale * torch.arange(1, 6).reshape(-1, 1, 1)
    expected = nearest_code((last / by_channel).double().numpy(), each)
    np.testing.assert_array_equal(scaled_codes(last, by_channel, each).numpy(), expected)


@pytest.mark.parametrize("name", ["INT_8", "POT_4"])
def test_nan_is_refused_in_whichever_chunk_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptqdb.quantization.rounding.CHUNK_ELEMENTS", 10)
    for place in (0, 15, 99):
        values = torch.ones(100)
        values[place] = math.nan
        with pytest.raises(DataError, match="found NaN"):
            scaled_codes(values, torch.tensor(0.5), number_format(name))
    infinite = torch.tensor([math.inf, -math.inf])
    largest = number_format(name).max_code
    codes = scaled_codes(infinite, torch.tensor(0.5), number_format(name))
    assert codes.tolist() == [largest, -largest]
    with pytest.raises(DataError, match="found NaN"):  # infinity over infinity
        scaled_codes(infinite, torch.tensor(math.inf), number_format(name))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("each", STUDY_GRID, ids=lambda each: each.name)
def test_a_nan_that_is_kept_leaves_its_neighbours_exact(
    each: NumberFormat, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a NaN of either sign, in whichever chunk, and infinities saturate."""
    monkeypatch.setattr("ptqdb.quantization.rounding.CHUNK_ELEMENTS", 10)
    values = torch.randn(40, dtype=dtype, generator=torch.Generator().manual_seed(0))
    values[8], values[9] = math.inf, -math.inf
    scale = torch.tensor(3.0, dtype=dtype) / each.max_code
    expected = scaled_codes(values, scale, each)
    assert expected[8:10].tolist() == [each.max_code, -each.max_code]
    broken = values.clone()
    broken[[0, 7, 23, 39]] = torch.tensor([math.nan, -math.nan, math.nan, -math.nan], dtype=dtype)
    is_nan = broken.isnan()
    for found in (
        scaled_codes(broken, scale, each, keep_nan=True),
        scaled_codes(broken, scale.expand(40), each, keep_nan=True),
        round_to_codes(broken / scale, each, keep_nan=True),
    ):
        assert torch.equal(found.isnan(), is_nan)
        assert torch.equal(found[~is_nan], expected[~is_nan])


def test_parameters_are_rounded_without_a_graph() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.4, 0.6]))
    codes = round_to_codes(weight, number_format("INT_4"))
    assert (codes.tolist(), codes.requires_grad) == ([0.0, 1.0], False)
    assert round_to_codes_(weight, number_format("INT_4")) is weight
    assert (weight.tolist(), weight.grad_fn) == ([0.0, 1.0], None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["INT_8", "POT_4", "FLOAT_8_E4"])
def test_nan_is_refused_and_nothing_is_changed(name: str, dtype: torch.dtype) -> None:
    values = torch.tensor([0.3, -math.inf, math.nan, math.inf], dtype=dtype)
    with pytest.raises(DataError, match="found NaN"):
        round_to_codes_(values, number_format(name))
    assert values[:2].tolist() == [torch.tensor(0.3, dtype=dtype).item(), -math.inf]
    infinities = values[[1, 3]]
    largest = number_format(name).max_code
    assert round_to_codes_(infinities, number_format(name)).tolist() == [-largest, largest]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(DataError, match=f"expected values in float32 or float64, found {dtype}"):
        round_to_codes_(torch.ones(2, dtype=dtype), number_format("INT_8"))


@pytest.mark.parametrize("name", ["INT_24", "INT_64", "POT_9", "FLOAT_12_E8", "FLOAT_24_E1"])
def test_float32_refuses_codes_that_it_cannot_hold(name: str) -> None:
    with pytest.raises(UsageError, match=f"found {name}; convert the values to float64"):
        round_to_codes_(torch.ones(2), number_format(name))
    assert rounded([1e-300], number_format(name), torch.float64).tolist() == [0]


@pytest.mark.parametrize("name", ["INT_23", "FLOAT_23_E1", "FLOAT_29_E7"])
def test_float32_holds_22_significant_bits(name: str) -> None:
    each = number_format(name)
    unit = each.max_code / (2**22 - 1)  # between the codes of the topmost binade
    generator = np.random.default_rng(0)
    quarters = generator.integers(2**23, 2**24, 3000) / 4
    values = np.concatenate([quarters, -quarters])
    expected = np.round(np.clip(values, 1 - 2**22, 2**22 - 1)) * unit
    np.testing.assert_array_equal(rounded(values * unit, each, torch.float32), expected)
