"""Groups that share a scale: the kernel against NumPy, group by group, and its algebra."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor, nn

from ptqdb.quantization import group_scaling
from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.formats import Format, find_format
from ptqdb.quantization.group_scaling import GroupRule, dequantized_rows
from ptqdb.quantization.number_formats import NumberFormat, number_format

Item = TypeVar("Item")
Floats = NDArray[np.float32]
TINY = np.finfo(np.float32).tiny
ROWS, COLUMNS = 6, 45
CODES = ("INT_4", "INT_8", "FLOAT_4_E2", "FLOAT_8_E4M3FN", "POT_4", "NF_4")


def made_rows() -> Floats:
    """Normal, with heavy tails, zeros alone, of one sign, tiny, and with values of every size."""
    draw = np.random.default_rng(0)
    rows = draw.normal(0, 1, (ROWS, COLUMNS))
    rows[1] = rows[1] ** 5
    rows[2] = 0
    rows[3] = abs(rows[3]) + 0.5
    rows[4] *= 1e-12
    rows[5] *= np.exp2(draw.integers(-12, 12, COLUMNS))
    return rows.astype(np.float32)


# --- the oracle ------------------------------------------------------------------------------


def nearest(quotients: Floats, known: NumberFormat) -> NDArray[np.float64]:
    """By brute force, the nearest code; the rules for ties are those of `round_to_codes_`."""
    codes = known.codes()
    distances = abs(quotients.astype(np.float64)[:, None] - codes)
    least = distances.min(1, keepdims=True)
    found = []
    for row, value in zip(distances == least, quotients, strict=True):
        tied = codes[row]
        if known.family == "NF" or len(tied) == 1:
            chosen = tied[0]
        elif known.family == "POT":
            chosen = max(tied, key=abs) if abs(tied).min() > 0 else 0.0
        else:
            zero = len(codes) // 2
            places = np.flatnonzero(row)
            chosen = codes[next(place for place in places if (place - zero) % 2 == 0)]
        found.append(math.copysign(chosen, value) if chosen == 0 else chosen)
    return np.array(found)


def in_e4m3(value: np.float32) -> np.float32:
    return np.float32(nearest(np.array([value]), number_format("FLOAT_8_E4M3FN"))[0])


@dataclass(frozen=True)
class Oracle:
    """A group at a time, in float32 where the kernel is."""

    known: NumberFormat
    scale_format: str
    has_zero_point: bool
    tensor_scale: np.float32

    @property
    def levels(self) -> int:
        return (1 << self.known.bits) - 1

    def scale(self, low: np.float32, high: np.float32) -> tuple[np.float32, np.float32 | None]:
        if self.has_zero_point:
            low, high = min(low, np.float32(0)), max(high, np.float32(0))
            scale = np.float32(high - low) / np.float32(self.levels)
            zero = np.rint(-low / (scale if scale >= TINY else np.float32(1)))
            return self.stored(scale), np.float32(zero)
        largest = max(-low, high)
        if self.scale_format == "E8M0":
            if largest < TINY:
                return np.float32(2.0**-127), None
            exponent = math.frexp(largest)[1] - math.frexp(self.known.max_code)[1]
            return np.float32(2.0 ** max(exponent, -127)), None
        scale = largest / np.float32(self.known.max_code)
        if self.scale_format == "E4M3":
            units = max(scale / self.tensor_scale, np.float32(2.0**-9))
            return in_e4m3(units) * self.tensor_scale, None
        return self.stored(scale), None

    def stored(self, scale: np.float32) -> np.float32:
        if self.scale_format == "float16":
            scale = np.float32(np.float16(min(scale, np.float32(65504))))
        return scale if scale >= TINY else np.float32(1)

    def values(self, group: Floats, scale: np.float32, zero: np.float32 | None) -> Floats:
        quotients = group / scale
        if zero is None:
            return nearest(quotients, self.known).astype(np.float32) * scale
        codes = np.clip(np.rint(quotients) + zero, 0, self.levels) - zero
        return np.asarray(codes * scale, np.float32)

    def clipped(self, group: Floats, scale: np.float32, zero: np.float32 | None) -> int:
        quotients, tolerance = (group / scale).astype(np.float64), 2.0**-20
        if zero is None:
            return int((abs(quotients) > self.known.max_code * (1 + tolerance)).sum())
        margin = 0.5 + tolerance * self.levels
        shifted = quotients + zero
        return int(((shifted < -margin) | (shifted > self.levels + margin)).sum())


def groups_of(rows: Floats, granularity: str) -> Iterator[Floats]:
    if granularity == "tensor":
        yield rows.reshape(-1)
        return
    size = rows.shape[1] if granularity == "channel" else int(granularity.removeprefix("block"))
    for row in rows:
        for start in range(0, len(row), size):
            yield row[start : start + size]


def whole_first(of_groups: list[Item], granularity: str, columns: int) -> list[Item]:
    """Scales in the kernel's order: those of whole groups, then those of the shorter ones."""
    size = int(granularity.removeprefix("block")) if granularity.startswith("block") else 0
    if not size or size >= columns or columns % size == 0:
        return of_groups
    per_row = -(-columns // size)
    is_last = [place % per_row == per_row - 1 for place in range(len(of_groups))]
    pairs = sorted(zip(is_last, of_groups, strict=True), key=lambda pair: pair[0])
    return [each for _, each in pairs]


def percentile_of(group: Floats) -> np.float32:
    """The smallest magnitude that at least 99.9 % of the values do not exceed."""
    ordered = np.sort(abs(group))
    share = np.arange(1, len(group) + 1) / len(group)
    found: np.float32 = ordered[np.flatnonzero(share >= 0.999 - 1e-12)[0]]
    return found


def asked(granularity: str, scale_format: str, rule: str, zero_point: str) -> str:
    options = f"scale={scale_format},range={rule},zero_point={zero_point}"
    return f"{granularity},inputs=float,{options}"


def quantized(rows: Floats, known: Format) -> tuple[Floats, Floats, int | None]:
    """What is tested: values, scales and the number of clipped values."""
    layer = nn.Linear(rows.shape[1], rows.shape[0])
    coded = code_weight(torch.from_numpy(rows), known.number_format, known.scheme, layer)
    assert coded.groups is not None
    values = coded.dequantized(layer).numpy()
    return values, coded.groups.scales.numpy(), coded.groups.clipped_count


KINDS = [
    (scale_format, zero_point)
    for scale_format in ("float32", "float16", "E8M0", "E4M3")
    for zero_point in ("none", "weights")
    if zero_point == "none" or scale_format.startswith("float")
]
each_kind = pytest.mark.parametrize(("scale_format", "zero_point"), KINDS)


@each_kind
@pytest.mark.parametrize("granularity", ["tensor", "channel", "block4", "block32", "block99"])
def test_the_range_rule_max(scale_format: str, zero_point: str, granularity: str) -> None:
    rows = made_rows()
    for name in CODES[: 2 if zero_point == "weights" else None]:
        known = find_format(f"{name}@{asked(granularity, scale_format, 'max', zero_point)}")
        codes = known.number_format
        tensor_scale = abs(rows).max() / np.float32(448 * codes.max_code)
        oracle = Oracle(codes, scale_format, zero_point == "weights", tensor_scale)
        groups = list(groups_of(rows, granularity))
        found = [oracle.scale(group.min(), group.max()) for group in groups]
        expected = [
            oracle.values(group, *scale) for group, scale in zip(groups, found, strict=True)
        ]
        values, scales, clipped = quantized(rows, known)
        ordered = whole_first([scale for scale, _ in found], granularity, COLUMNS)
        np.testing.assert_array_equal(scales, ordered, err_msg=name)
        np.testing.assert_array_equal(values.reshape(-1), np.concatenate(expected), err_msg=name)
        counts = [oracle.clipped(*each) for each in _with_scales(groups, found)]
        assert clipped == sum(counts), name


def _with_scales(
    groups: list[Floats], scales: list[tuple[np.float32, np.float32 | None]]
) -> Iterator[tuple[Floats, np.float32, np.float32 | None]]:
    for group, (scale, zero) in zip(groups, scales, strict=True):
        yield group, scale, zero


@pytest.mark.parametrize("zero_point", ["none", "weights"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "block1500"])
def test_the_range_rule_percentile(zero_point: str, granularity: str) -> None:
    """Of 2,345 values the largest 2 are clipped, of 1,500 the largest, of the other 845 none."""
    draw = np.random.default_rng(1)
    rows = (draw.normal(0, 1, (2, 2345)) ** 3 + 0.2).astype(np.float32)
    known = find_format(f"INT_6@{asked(granularity, 'float32', 'percentile', zero_point)}")
    oracle = Oracle(known.number_format, "float32", zero_point == "weights", np.float32(1))
    expected, scales, clipped = [], [], 0
    for group in groups_of(rows, granularity):
        limit = percentile_of(group)
        if len(group) == 845:
            assert limit == abs(group).max()
        elif len(group) in (1500, 2345):
            assert (abs(group) > limit).sum() == (1 if len(group) == 1500 else 2)
        low, high = max(group.min(), -limit), min(group.max(), limit)
        ends = (low, high) if zero_point == "weights" else (-limit, limit)
        scale, zero = oracle.scale(*ends)
        expected.append(oracle.values(group, scale, zero))
        scales.append(scale)
        clipped += oracle.clipped(group, scale, zero)
    values, found, count = quantized(rows, known)
    np.testing.assert_array_equal(found, whole_first(scales, granularity, rows.shape[1]))
    np.testing.assert_array_equal(values.reshape(-1), np.concatenate(expected))
    assert count == clipped > 0


@pytest.mark.parametrize("scale_format", ["float32", "float16"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "block8"])
@pytest.mark.parametrize(
    ("name", "zero_point"),
    [("INT_3", "none"), ("INT_3", "weights"), ("FLOAT_4_E2", "none"), ("NF_4", "none")],
)
def test_the_range_rule_mse(
    name: str, zero_point: str, granularity: str, scale_format: str
) -> None:
    """Values of one of 41 fractions of the range, whose squared error none of the others beats."""
    rows = made_rows()[[0, 3]] if granularity == "tensor" else made_rows()
    known = find_format(f"{name}@{asked(granularity, scale_format, 'mse', zero_point)}")
    oracle = Oracle(known.number_format, scale_format, zero_point == "weights", np.float32(1))
    values, scales, _ = quantized(rows, known)
    groups = list(zip(*(groups_of(each, granularity) for each in (rows, values)), strict=True))
    fractions = [np.float32(1 - 0.02 * step) for step in range(41)]
    assert fractions[-1] == np.float32(0.2)
    narrowed, possible = 0, []
    for group, found in groups:
        low, high = group.min(), group.max()
        if zero_point == "none":
            low, high = -max(-low, high), max(-low, high)
        tried = [oracle.scale(low * fraction, high * fraction) for fraction in fractions]
        results = [oracle.values(group, *each) for each in tried]
        errors = [float(((each.astype(np.float64) - group) ** 2).sum()) for each in results]
        error = float(((found.astype(np.float64) - group) ** 2).sum())
        assert error <= min(errors) * (1 + 1e-5)
        same = [np.array_equal(found, each) for each in results]
        possible.append({scale for (scale, _), is_it in zip(tried, same, strict=True) if is_it})
        narrowed += error < errors[0]
    of_groups = whole_first(possible, granularity, COLUMNS)
    assert all(scale in each for scale, each in zip(scales, of_groups, strict=True))
    assert narrowed > 0


def test_the_last_fraction_of_the_range_is_tried() -> None:
    """One value of 1 among 100 of 0.2: a scale of 0.2 costs 0.8², one of 1 costs 100 x 0.2²."""
    rows = torch.full((1, 101), 0.2)
    rows[0, 50] = 1
    values, groups = dequantized_rows(rows, rule_of("INT_2@channel,range=mse"))
    assert groups.scales.tolist() == pytest.approx([0.2])
    assert bool(((values - 0.2).abs() < 1e-6).all())


# --- algebra ---------------------------------------------------------------------------------


def rule_of(name: str) -> GroupRule:
    known = find_format(name)
    scheme = known.scheme
    return GroupRule(
        known.number_format,
        scheme.block_size,
        scheme.symmetry,
        scheme.range_rule,
        scheme.scale_format,
        torch.tensor(2.0**-6) if scheme.scale_format == "E4M3" else None,
    )


def values_of(rows: Tensor, rule: GroupRule) -> Tensor:
    return dequantized_rows(rows, rule)[0]


magnitudes = some.floats(2.0**-20, 2.0**20, width=32)
numbers = some.one_of(some.just(0.0), magnitudes, magnitudes.map(lambda value: -value))
some_rows = arrays.arrays(
    np.float32, some.tuples(some.integers(1, 4), some.integers(1, 11)), elements=numbers
).map(torch.from_numpy)
KERNELS = (
    *("INT_5@block4", "INT_5@block4,zero_point=weights", "INT_4@channel", "FLOAT_5_E2@block3"),
    *("FLOAT_4_E2@block4,scale=E8M0", "POT_4@block4,scale=E8M0", "INT_8@block5,scale=E8M0"),
    *("FLOAT_4_E2@block2,scale=E4M3", "INT_4@block4,range=mse", "NF_4@block4,scale=float16"),
    *("INT_4@block4,range=mse,zero_point=weights", "INT_8@block4,scale=float16"),
)
each_kernel = pytest.mark.parametrize("name", KERNELS)
quickly = settings(max_examples=15, deadline=None)


@each_kernel
@quickly
@given(rows=some_rows)
def test_groups_are_independent(name: str, rows: Tensor) -> None:
    rule = rule_of(name)
    size = rule.size or rows.shape[1]
    alone = [
        torch.cat([values_of(part[None], rule)[0] for part in row.split(size)]) for row in rows
    ]
    assert torch.equal(values_of(rows, rule), torch.stack(alone))


@each_kernel
@pytest.mark.parametrize("elements", [1, 20, 50])
def test_chunks_do_not_matter(name: str, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, rule = torch.from_numpy(made_rows()).clamp(-1e3, 1e3), rule_of(name)
    expected, groups = dequantized_rows(rows, rule, counts_clipped=True)
    monkeypatch.setattr(group_scaling, "CHUNK_ELEMENTS", elements)
    found, of_chunks = dequantized_rows(rows, rule, counts_clipped=True)
    assert torch.equal(found, expected)
    assert of_chunks.clipped_count == groups.clipped_count
    assert torch.equal(of_chunks.scales.sort().values, groups.scales.sort().values)


@each_kernel
@quickly
@given(rows=some_rows)
def test_zeros_stay_zero_and_signs_stay(name: str, rows: Tensor) -> None:
    values = values_of(rows, rule_of(name))
    assert not values[rows == 0].any()
    assert bool((values * rows >= 0).all())


@each_kernel
@quickly
@given(rows=some_rows)
def test_values_are_fixed_points(name: str, rows: Tensor) -> None:
    """To the bit where the largest value keeps its scale: powers of two, and float16."""
    rule = rule_of(name)
    if rule.range_rule == "mse" or rule.scale_format == "E4M3":
        return  # another fraction, or another E4M3, may fit the new values
    once = values_of(rows, rule)
    twice = values_of(once, rule)
    if rule.scale_format in ("E8M0", "float16"):
        assert torch.equal(twice, once)
    else:
        assert torch.allclose(twice, once, rtol=1e-6, atol=0)


@quickly
@given(
    rows=some_rows,
    scale_format=some.sampled_from(["float32", "E8M0"]),
    shift=some.integers(-40, 40),
)
def test_powers_of_two_commute(rows: Tensor, scale_format: str, shift: int) -> None:
    rule = rule_of(f"FLOAT_6_E3@block4,scale={scale_format}")
    factor = 2.0**shift
    assert torch.equal(values_of(rows * factor, rule), values_of(rows, rule) * factor)


@quickly
@given(rows=some_rows, name=some.sampled_from(["none", "weights"]))
def test_errors_are_at_most_half_a_step(rows: Tensor, name: str) -> None:
    """Of integers, under the rule max; a zero point is rounded, too, by up to another half."""
    rule = rule_of(f"INT_6@block4,zero_point={name}")
    values, groups = dequantized_rows(rows, rule, counts_clipped=True)
    per_row = -(-rows.shape[1] // 4)
    whole = rows.shape[1] // 4 * len(rows)  # the whole groups come first, then the shorter ones
    scales = torch.zeros(len(rows), per_row)
    scales[:, : rows.shape[1] // 4] = groups.scales[:whole].view(len(rows), -1)
    if rows.shape[1] % 4:
        scales[:, -1] = groups.scales[whole:]
    steps = scales.repeat_interleave(4, 1)[:, : rows.shape[1]]
    bound = steps * (0.5 if name == "none" else 1.0)
    assert bool(((values - rows).abs() <= bound * (1 + 1e-5)).all())
    assert groups.clipped_count == 0


@quickly
@given(rows=some_rows, name=some.sampled_from(["FLOAT_4_E2", "INT_4", "FLOAT_8_E5M2"]))
def test_a_block_of_microscaling_has_the_largest_code_or_loses_less_than_half(
    rows: Tensor, name: str
) -> None:
    """The largest value's quotient is between 2^emax and 2^(emax + 1), and so never rounds to 0."""
    rule = rule_of(f"{name}@block16,scale=E8M0")
    values, groups = dequantized_rows(rows, rule)
    largest, kept = rows.abs().amax(1), values.abs().amax(1)
    assert bool((kept > largest / 2).logical_or(largest == 0).all())
    assert bool((groups.scales.log2() == groups.scales.log2().round()).all())


def test_scales_beyond_a_format() -> None:
    """Float16 saturates at 65,504; a span beyond float32 is divided before it is added."""
    rows = torch.tensor([[1e30, -3.0]])
    values, groups = dequantized_rows(rows, rule_of("INT_4@block2,scale=float16"))
    assert (groups.scales.tolist(), values.tolist()) == ([65504.0], [[7 * 65504.0, 0.0]])
    rows = torch.tensor([[-3e38, 3e38]])
    values, groups = dequantized_rows(rows, rule_of("INT_4@block2,zero_point=weights"))
    step = 6e38 / 15
    assert groups.scales.item() == pytest.approx(step, rel=1e-6)
    assert values[0].tolist() == pytest.approx([-8 * step, 7 * step], rel=1e-6)


def test_rows_of_any_strides_and_none_at_all() -> None:
    rule = rule_of("FLOAT_4_E2@block4,scale=E8M0")
    rows = torch.from_numpy(made_rows())
    for given_rows in (rows.T.contiguous().T, rows[:, ::1].flip(0).flip(0), rows[None][0]):
        assert torch.equal(values_of(given_rows, rule), values_of(rows, rule))
    for shape in ((0, 5), (3, 0)):
        values, groups = dequantized_rows(torch.empty(shape), rule)
        assert (values.shape, len(groups.scales)) == (shape, 0)


def test_the_order_of_scales_is_that_of_whole_groups_then_the_rest() -> None:
    rows = torch.tensor([[1.0, 1.0, 2.0], [4.0, 4.0, 8.0]])
    _, groups = dequantized_rows(rows, rule_of("INT_2@block2"))
    assert groups.scales.tolist() == [1.0, 4.0, 2.0, 8.0]


def test_every_kind_is_tried() -> None:
    kinds = itertools.product(("float32", "float16", "E8M0", "E4M3"), ("none", "weights"))
    assert [kind for kind in kinds if kind not in KINDS] == [
        ("E8M0", "weights"),
        ("E4M3", "weights"),
    ]
