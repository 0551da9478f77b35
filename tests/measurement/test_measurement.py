"""Sums, histograms and divergences beside NumPy and SciPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import softmax_divergence
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from ptqdb.measurement import chunks
from ptqdb.measurement.coded_tensors import code_counts, coded_tensor_facts
from ptqdb.measurement.softmax_divergence import softmax_group_count
from ptqdb.measurement.tensors import (
    BIN_COUNT,
    TensorMeasurement,
    channel_facts,
    channel_squared_errors,
    histogram,
    tensor_facts,
)
from ptqdb.quantization.codes import code_bias, code_weight
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat, bias_format, number_format
from ptqdb.quantization.schemes import PER_TENSOR_SYMMETRIC_MAX


def random_weight(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_histogram_breaks_ties_toward_zero() -> None:
    # with max abs 2047 a bin is one wide: 0.5 and -0.5 fall to 0, 1.5 to 1, 1.51 to 2
    values = torch.tensor([0.5, -0.5, 1.5, -1.5, 1.51, 2047.0, -2047.0], dtype=torch.float64)
    counts = histogram(values, 2047.0)
    filled = {int(i) - 2047: int(counts[i]) for i in counts.nonzero().flatten()}
    assert filled == {0: 2, 1: 1, -1: 1, 2: 1, 2047: 1, -2047: 1}


def test_facts_are_those_of_numpy_over_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 100)
    weight = random_weight((8, 4, 3, 3))
    facts = tensor_facts(weight)
    x = weight.numpy().astype(np.float64).ravel()
    sums = [x.sum(), abs(x).sum(), (x**2).sum(), (x**3).sum(), (x**4).sum()]
    found = [facts.sum_x, facts.sum_abs, facts.sum_x2, facts.sum_x3, facts.sum_x4]
    assert np.allclose(found, sums, rtol=1e-12)
    assert (facts.element_count, facts.min_value, facts.max_value) == (x.size, x.min(), x.max())
    scaled = x * 2047 / facts.max_abs
    bins = np.sign(scaled) * np.ceil(abs(scaled) - 0.5)
    expected, counts = np.unique(bins, return_counts=True)
    assert np.array_equal(facts.bins, expected)
    assert np.array_equal(facts.counts, counts)


def test_facts_of_zeros_have_one_bin() -> None:
    facts = tensor_facts(torch.zeros(5))
    assert (facts.bins.tolist(), facts.counts.tolist(), facts.max_abs) == ([0], [5], 0.0)


def test_batches_add_up_to_the_whole() -> None:
    inputs = random_weight((6, 3, 4, 4), seed=1)
    parts = TensorMeasurement(float(inputs.abs().max()), torch.device("cpu"))
    for batch in torch.split(inputs, 2):
        parts.add(batch)
    whole = tensor_facts(inputs)
    assert np.array_equal(parts.facts().counts, whole.counts)
    assert parts.facts().sum_x2 == pytest.approx(whole.sum_x2, rel=1e-12)


def test_channels_are_rows_of_the_weight() -> None:
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    facts = channel_facts(weight)
    assert facts.min_value.tolist() == [-2.0, 0.5]
    assert facts.max_value.tolist() == [1.0, 3.0]
    assert facts.sum_x2.tolist() == [5.0, 9.25]


def test_channels_are_whole_in_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqdb.measurement.chunks.CHUNK_SIZE", 25)
    weight = random_weight((7, 10), seed=4)
    expected = (weight.numpy().astype(np.float64) ** 2).sum(axis=1)
    assert channel_facts(weight).sum_x2 == pytest.approx(expected, rel=1e-14)
    codes = random_weight((7, 10), seed=5)
    error = weight.numpy().astype(np.float64) - 0.3 * codes.numpy().astype(np.float64)
    found = channel_squared_errors(weight, codes, 0.3)
    assert found == pytest.approx((error**2).sum(axis=1), rel=1e-14)


@pytest.mark.parametrize("name", ["INT_2", "INT_8", "INT_16", "POT_4", "POT_8", "FLOAT_6_E3"])
def test_coded_weight_is_that_of_numpy(name: str) -> None:
    known, weight = number_format(name), random_weight((16, 8, 3, 3), seed=2)
    coded = code_weight(weight, known, PER_TENSOR_SYMMETRIC_MAX)
    facts = coded_tensor_facts(weight, coded, known, is_weight=True)
    x = weight.numpy().astype(np.float64)
    codes = coded.codes.numpy().astype(np.float64)
    scale = np.float64(np.float32(weight.abs().max()) / np.float32(known.max_code))
    assert facts.scale == scale
    assert facts.clipped_count == 0
    assert facts.sum_codes == pytest.approx(codes.sum(), rel=1e-12, abs=1e-9 * known.max_code)
    assert facts.sum_codes2 == pytest.approx((codes**2).sum(), rel=1e-12)
    assert facts.sum_code_x == pytest.approx((codes * x).sum(), rel=1e-12)
    assert facts.squared_error_sum == pytest.approx(((codes * scale - x) ** 2).sum(), rel=1e-9)
    assert facts.code_counts.sum() == weight.numel()
    p = softmax(x, axis=1)
    factor = math.sqrt((x**2).sum() / (codes**2).sum())
    for found, dequantized in (
        (facts.softmax_js_fakefreeze, codes * scale),
        (facts.softmax_js_l2, codes * factor),
    ):
        groups = jensenshannon(p, softmax(dequantized, axis=1), axis=1, base=2) ** 2
        assert found == pytest.approx(groups.sum(), rel=1e-5, abs=1e-9)
    assert facts.softmax_group_count == 16 * 9


def test_bias_past_the_largest_code_is_clipped_and_counted() -> None:
    # POT biases reach 1: at scale 0.5 a bias of 0.75 has to be cut to 0.5
    bias = torch.tensor([0.75, 0.25, -0.5, -2.0])
    family = number_format("POT_4")
    coded = code_bias(bias, torch.tensor(0.5, dtype=torch.float64), family)
    facts = coded_tensor_facts(bias, coded, bias_format("POT"), is_weight=False)
    assert coded.codes.tolist() == [1.0, 0.5, -1.0, -1.0]
    assert facts.clipped_count == 2
    assert facts.squared_error_sum == 0.25**2 + 1.5**2
    assert facts.softmax_group_count == 1
    assert dict(zip(facts.codes.tolist(), facts.code_counts.tolist(), strict=True)) == {
        -1.0: 2,
        0.5: 1,
        1.0: 1,
    }


def test_many_codes_are_binned_for_weights_and_exact_for_biases() -> None:
    known = number_format("INT_16")
    codes = torch.tensor([32767.0, -32767.0, 8.0, 0.0])
    centres, counts = code_counts(codes, known, binned=True)
    # a bin is 32767 / 2047 = 16.007 codes wide: 8 is nearer to bin 0
    assert centres.tolist() == [-32767.0, 0.0, 32767.0]
    assert counts.tolist() == [1, 2, 1]
    exact, _ = code_counts(codes, known, binned=False)
    assert exact.tolist() == [-32767.0, 0.0, 8.0, 32767.0]


@pytest.mark.parametrize(
    "known",
    [known for known in STUDY_GRID if known.code_count <= BIN_COUNT],
    ids=lambda known: known.name,
)
def test_every_code_is_counted_in_its_place(known: NumberFormat) -> None:
    """The one at place i of the magnitudes i % 3 + 1 times, its negative once more."""
    magnitudes = known.magnitudes()
    times = np.arange(len(magnitudes)) % 3 + 1
    values = np.concatenate([np.repeat(magnitudes, times), -np.repeat(magnitudes, times + 1)])
    expected, expected_counts = np.unique(values + 0.0, return_counts=True)
    codes, counts = code_counts(torch.from_numpy(values).float(), known, binned=True)
    assert np.array_equal(codes, expected)
    assert np.array_equal(counts, expected_counts)
    assert not np.signbit(codes[codes == 0]).any()


@pytest.mark.parametrize(
    "weight",
    [
        random_weight((7, 6, 3, 3)),
        random_weight((7, 6, 3, 3)).to(memory_format=torch.channels_last),
        random_weight((7, 6, 5)),
        random_weight((70, 6)),
        random_weight((6, 70)).T,
        random_weight((90,)),
    ],
    ids=["rows", "channels last", "one dimension", "linear", "transposed", "bias"],
)
def test_chunks_change_nothing(weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    known = number_format("INT_6")
    coded = code_weight(weight, known, PER_TENSOR_SYMMETRIC_MAX)
    whole = coded_tensor_facts(weight, coded, known, is_weight=True)
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 50)
    parts = coded_tensor_facts(weight, coded, known, is_weight=True)
    assert np.array_equal(parts.code_counts, whole.code_counts)
    for field in ("sum_codes2", "sum_code_x", "squared_error_sum", "softmax_js_l2"):
        assert getattr(parts, field) == pytest.approx(getattr(whole, field), rel=1e-12)
    x, scale = weight.double().numpy(), float(coded.scale)
    p, q = (softmax(y, axis=min(x.ndim - 1, 1)) for y in (x, coded.codes.double().numpy() * scale))
    groups = jensenshannon(p, q, axis=min(x.ndim - 1, 1), base=2) ** 2
    assert parts.softmax_js_fakefreeze == pytest.approx(groups.sum(), rel=1e-8)


def test_negative_zero_is_zero() -> None:
    codes, counts = code_counts(torch.tensor([-0.0, 0.0]), number_format("FLOAT_5_E2"), binned=True)
    assert codes.tolist() == [0.0]
    assert counts.tolist() == [2]


def test_softmax_groups_are_those_of_dimension_one() -> None:
    assert softmax_group_count(torch.zeros(6, 4, 3, 3)) == 54
    assert softmax_group_count(torch.zeros(6, 4)) == 6
    assert softmax_group_count(torch.zeros(6)) == 1


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_softmax_divergence_is_symmetric_bounded_and_zero_on_equals(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(3, 5, generator=generator, dtype=torch.float64) * 3
    b = torch.randn(3, 5, generator=generator, dtype=torch.float64) * 3
    there, back = softmax_divergence(a, b), softmax_divergence(b, a)
    assert there == pytest.approx(back, rel=1e-9)
    assert 0 < there <= 3
    assert softmax_divergence(a, a.clone()) == pytest.approx(0, abs=1e-14)
