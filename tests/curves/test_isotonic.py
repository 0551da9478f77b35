"""Isotonic regression: against two oracles, the ceiling of the other curves, and its statistics."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from ptqdb.curves import CURVES, curve
from ptqdb.curves.bootstrap import network_bootstrap
from ptqdb.curves.function import fit_curve
from ptqdb.curves.isotonic import IsotonicFunction
from ptqdb.curves.points import Places, Points
from ptqdb.errors import DataError, UsageError

# Few distinct values: many points share their x, and many neighbours are in the wrong order.
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(-8, 8)), min_size=2, max_size=20).filter(
    lambda points: all(len(set(values)) > 1 for values in zip(*points, strict=True))
)


def columns(points: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x for x, _ in points], float), np.array([y for _, y in points], float)


def max_min(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The level at each distinct x: the greatest of the least means of the y from a to b.

    a runs over the places up to x and b over those from it on (Robertson, Wright and Dykstra,
    1988, theorem 1.4.4).
    """
    places = np.unique(x)
    return np.array(
        [
            max(
                min(y[(x >= a) & (x <= b)].mean() for b in places[i:].tolist())
                for a in places[: i + 1].tolist()
            )
            for i in range(len(places))
        ]
    )


def test_by_hand() -> None:
    # At x = 1 the mean of 4 and 0 is 2. The 5 at x = 2 and the 3 and 1 at x = 3, mean 2, are in
    # the wrong order: one level (5 + 3 + 1) / 3 = 3 for both.
    fit = curve("isotonic").estimate([3, 1, 2, 1, 3, 4], [3, 4, 5, 0, 1, 9])
    assert isinstance(fit.function, IsotonicFunction)
    assert fit.function.knots == (1, 2, 3, 4)
    np.testing.assert_allclose(fit.params, [2, 3, 3, 9])
    assert fit.ssr == pytest.approx(4 + 4 + 4 + 0 + 4)
    assert fit.df_model == 3 - 1  # three distinct levels
    assert fit.function.parameter_names == ("level0", "level1", "level2", "level3")


@given(POINTS)
@settings(max_examples=60, deadline=None)
def test_is_the_max_min_formula(points: list[tuple[int, int]]) -> None:
    x, y = columns(points)
    fit = curve("isotonic").estimate(x, y)
    np.testing.assert_allclose(fit.params, max_min(x, y), atol=1e-12)
    assert fit.monotone
    assert fit.df_model + 1 == len(np.unique(np.round(fit.params, 9)))


def test_is_scipy_where_no_x_is_repeated() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([[0.0], 10 ** rng.uniform(-9, 1, 60)])
    y = np.tanh(x) + rng.normal(0, 0.2, 61)
    fit = curve("isotonic").estimate(x, y)
    order = np.argsort(x)
    np.testing.assert_allclose(fit.fittedvalues[order], isotonic_regression(y[order]).x)


@pytest.mark.slow
@given(st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_no_monotone_curve_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.round(10 ** rng.uniform(-3, 1, 24), 2)
    y = x / (1 + x) + rng.normal(0, rng.choice([0.02, 0.5]), 24)
    least = curve("isotonic").estimate(x, y).ssr
    others = [entry for entry in CURVES.values() if not entry.function.needs]
    fits = [entry.estimate(x, y) for entry in others if not entry.function.uses_chance_loss]
    rising = [fit for fit in fits if fit.monotone]
    assert len(rising) >= 6
    for fit in rising:
        assert least <= fit.ssr * (1 + 1e-9), fit.function


@given(POINTS, st.integers(-20, 20), st.integers(-20, 20))
@settings(max_examples=40, deadline=None)
def test_reversal_and_units(points: list[tuple[int, int]], x_power: int, y_power: int) -> None:
    x, y = columns(points)
    fit = curve("isotonic").estimate(x, y)
    turned = curve("isotonic").estimate(-x, -y)
    np.testing.assert_allclose(turned.params, -fit.params[::-1], atol=1e-12)
    # Powers of 2 change no digit.
    scaled = curve("isotonic").estimate(x * 2.0**x_power, y * 2.0**y_power)
    np.testing.assert_array_equal(scaled.params, fit.params * 2.0**y_power)
    np.testing.assert_array_equal(scaled.x, fit.x * 2.0**x_power)


def test_between_and_past_the_knots() -> None:
    fit = curve("isotonic").estimate([0, 1, 3], [0, 2, 6])
    np.testing.assert_allclose(fit.predict([-9, 0.25, 2, 3, 99]), [0, 0.5, 4, 6, 6])
    function, params = fit.function, fit.params
    np.testing.assert_allclose(function.values(params, Places.of([-9.0, 99.0])), [0, 6])


def test_other_points_are_read_at_the_knots() -> None:
    # The points at 0 and 2 have the levels 1 and 5: the line between them is 3 at x = 1, and
    # past them they hold.
    function = IsotonicFunction(knots=(-1.0, 0.0, 1.0, 7.0))
    others = Points(np.array([0.0, 2.0, 2.0]), np.array([1.0, 4.0, 6.0]))
    np.testing.assert_allclose(function.estimate(others), [1, 1, 3, 5])


def test_proof() -> None:
    function = IsotonicFunction(knots=(0.0, 1.0, 2.0))
    assert function.is_monotone([1, 1, 2], 0, 2)
    assert not function.is_monotone([1, 1 - 1e-16, 2], 0, 2)
    assert not function.is_monotone([1, float("nan"), 2], 0, 2)
    assert not function.is_monotone([1, 2, float("inf")], 0, 2)


def test_one_network_has_no_standard_error() -> None:
    results = curve("isotonic").fit([0, 1, 2, 3, 4], [0, 2, 1, 3, 5])
    assert np.isnan(results.bse).all()
    assert np.isnan(results.get_prediction([1.5]).se).all()
    # Four levels of five points: 0, 1.5 twice, 3 and 5.
    assert (results.df_model, results.df_resid) == (3, 1)
    assert results.rsquared == pytest.approx(1 - 0.5 / 14.8)
    assert "level4" in str(results.summary())


def test_networks_give_standard_errors() -> None:
    x = np.tile(np.arange(6.0), 3)
    network = np.repeat(["A", "B", "C"], 6)
    y = x / 6 + np.repeat([0.0, 0.1, 0.2], 6)
    fit = curve("isotonic").estimate(x, y, network=network)
    drawn = network_bootstrap(fit, draw_count=40)
    assert drawn.failed_count == 0
    # The mean of three draws of 0, 0.1 and 0.2, whose variance is 0.02 / 3: that over 3.
    np.testing.assert_allclose(np.sqrt(np.diag(drawn.covariance())), (0.02 / 9) ** 0.5, rtol=0.3)
    assert all(one.monotone for one in drawn.fits)


def test_can_be_written_and_read() -> None:
    fit = curve("isotonic").estimate([0.1, 0.2, 0.7], [0.3, 0.2, 0.9])
    text = json.dumps([asdict(fit.function), fit.params.tolist()])
    fields, params = json.loads(text)
    again = IsotonicFunction(knots=tuple(fields["knots"]))
    assert again == fit.function
    x = np.linspace(0, 1, 50)
    np.testing.assert_array_equal(
        again.values(params, Places.of(x)), fit.function.values(fit.params, Places.of(x))
    )


def test_points_that_carry_no_levels() -> None:
    with pytest.raises(DataError, match="at least 2 points, found 1"):
        curve("isotonic").estimate([1], [1])
    with pytest.raises(DataError, match="x to vary"):
        curve("isotonic").estimate([1, 1], [1, 2])
    assert curve("isotonic").estimate([1, 2], [1, 2]).rsquared == 1
    points = Points(np.arange(3.0), np.arange(3.0))
    with pytest.raises(UsageError, match=r"found one without; call prepared\(points\)"):
        IsotonicFunction().estimate(points)
    assert fit_curve(IsotonicFunction(), points.x, points.y).rsquared == 1
