"""The formulas of the macros, each alone, against NumPy and SciPy."""

import duckdb
import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import binomtest

from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat

COARSE_COUNTS = (
    1365, 819, 585, 455, 315, 273, 195, 117, 105, 91, 65,
    63, 45, 39, 35, 21, 15, 13, 9, 7, 5, 3,
)  # fmt: skip


shares = st.lists(st.integers(0, 10**6), min_size=3, max_size=3).filter(any)


@settings(max_examples=50)
@given(left=shares, right=shares)
def test_js_is_symmetric_bounded_and_scipys(
    formulas: duckdb.DuckDBPyConnection, left: list[int], right: list[int]
) -> None:
    p, q = (np.array(x) / sum(x) for x in (left, right))
    is_shared = (p > 0) & (q > 0)
    terms = formulas.execute(
        "select js_term(p, q), js_term(q, p) from (select unnest($1) as p, unnest($2) as q)",
        [p[is_shared].tolist(), q[is_shared].tolist()],
    ).fetchall()
    assert all(one == other >= 0 for one, other in terms)
    outside = 0.5 * p[~is_shared].sum() + 0.5 * q[~is_shared].sum()
    divergence = sum(one for one, _ in terms) + outside
    assert -1e-15 <= divergence <= 1 + 1e-15
    assert divergence == pytest.approx(float(jensenshannon(p, q, base=2)) ** 2, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("relative", [1e-9, 1e-6, 1e-3, 0.0399, 0.0401, 0.3])
def test_js_term_keeps_its_digits(formulas: duckdb.DuckDBPyConnection, relative: float) -> None:
    p, q = 0.5, 0.5 * (1 + relative)
    d = (q - p) / (p + q)
    # sum over k of d^2k / (k (2k - 1)), all terms positive; 60 of them are exact for d < 0.15.
    series = sum(d ** (2 * k) / (k * (2 * k - 1)) for k in range(60, 0, -1))
    found = formulas.execute("select js_term($1, $2)", [p, q]).fetchall()[0][0]
    assert found == pytest.approx((p + q) / (4 * np.log(2)) * series, rel=1e-11)


@pytest.mark.parametrize("bins", COARSE_COUNTS)
def test_coarse_bins_partition_the_fine_ones(
    formulas: duckdb.DuckDBPyConnection, bins: int
) -> None:
    group = 4095 // bins
    rows = formulas.execute(
        "select range, coarse_bin(range, $1) from range(-2047, 2048)", [bins]
    ).fetchall()
    fine, coarse = np.array(rows).T
    # Bin k covers the fine bins within (group - 1) / 2 of k * group.
    assert (np.abs(fine - coarse * group) <= (group - 1) // 2).all()
    assert set(coarse) == set(range(-(bins // 2), bins // 2 + 1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0), (1.0, 2047), (-1.0, -2047), (1.5 / 2047, 1), (-1.5 / 2047, -1), (2.0, 4094)],
)
def test_fine_bin_ties_toward_zero(
    formulas: duckdb.DuckDBPyConnection, value: float, expected: int
) -> None:
    assert formulas.execute("select fine_bin($1, 1.0)", [value]).fetchall() == [(expected,)]
    assert formulas.execute("select fine_bin($1, 0.0)", [value]).fetchall() == [(0,)]


@pytest.mark.parametrize("known", STUDY_GRID, ids=lambda known: known.name)
def test_no_code_sits_on_a_coarse_edge(known: NumberFormat) -> None:
    """For every count that bins takes; 4095 itself it refuses, for the reason shown below."""
    position = np.array(2 * 2047 * known.magnitudes() / known.max_code)
    if known.code_count > synthetic.MAX_EXACT_CODES:
        position = 2 * np.arange(2048, dtype=np.float64)
    for bins in COARSE_COUNTS:
        group = 4095 // bins
        # In half fine bins the edges are the odd multiples of group.
        nearest_edge = (2 * np.floor(position / (2 * group)) + 1) * group
        distance = np.abs(position - nearest_edge) / 2
        # A float32 scale moves a position by up to 2^-24 of itself.
        assert (distance > np.maximum(1e-9, position / 2 * 2.0**-24)).all(), bins


def test_half_the_largest_code_sits_on_a_fine_edge() -> None:
    # 2047 * 0.5 = 1023.5: why 4095 bins are refused.
    assert 2047 * 0.5 % 1 == 0.5
    assert 4095 not in COARSE_COUNTS
    divisors = {n for n in range(3, 1366) if 4095 % n == 0}
    assert divisors == set(COARSE_COUNTS)


def test_standard_error_is_what_resampling_finds(formulas: duckdb.DuckDBPyConnection) -> None:
    random = np.random.default_rng(1)
    float_correct = random.random(5000) < 0.8
    correct = np.where(random.random(5000) < 0.7, float_correct, random.random(5000) < 0.1)
    draws = random.integers(0, 5000, size=(2000, 5000))
    losses = 1 - correct[draws].sum(axis=1) / float_correct[draws].sum(axis=1)
    counts = [int(x.sum()) for x in (correct, float_correct, correct & float_correct)]
    formula = formulas.execute("select accuracy_loss_se($1, $2, $3)", counts).fetchall()[0][0]
    # 2000 resamplings know a standard deviation to 1 / sqrt(4000) = 1.6%; 4 times that.
    assert formula == pytest.approx(losses.std(), rel=0.064)


@pytest.mark.parametrize("count", [100, 2000, 10_000])
def test_no_image_that_differs_is_no_proof_of_no_loss(
    formulas: duckdb.DuckDBPyConnection, count: int
) -> None:
    """The error times z is Wilson's bound; more images that differ never make it smaller."""
    interval = binomtest(0, count).proportion_ci(confidence_level=0.9, method="wilson")
    call = "select accuracy_loss_se($1, $2, $3)"
    errors = [
        formulas.execute(call, [count - lost, count, count - lost]).fetchall()[0][0]
        for lost in range(6)
    ]
    assert 1.645 * errors[0] == pytest.approx(interval.high, rel=0.03)
    assert errors == sorted(errors)
    # With three and more, the delta method's.
    assert errors[3] == pytest.approx(((count - 3) / count * 3) ** 0.5 / count, rel=1e-12)
    # Nothing left is no certainty either; without a correct image there is no loss.
    assert formulas.execute(call, [0, count, 0]).fetchall()[0][0] == errors[0]
    assert formulas.execute(call, [0, 0, 0]).fetchall() == [(None,)]
