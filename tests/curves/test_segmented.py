"""Rational curves that end at a breakpoint: given or found, never worse, and their statistics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqdb.curves import curve, segmented
from ptqdb.curves.bootstrap import network_bootstrap
from ptqdb.curves.function import CurveFit, fit_curve
from ptqdb.curves.model import CurveModel
from ptqdb.curves.points import Places, Points
from ptqdb.curves.rational import RationalFunction
from ptqdb.curves.segmented import SegmentedFunction
from ptqdb.errors import DataError, UsageError


def rising(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = (0.1 + 0.3 * x + 0.4 * x**2) / (1 + 0.1 * x + 0.05 * x**2)
    return y


@pytest.fixture
def saturated() -> tuple[np.ndarray, np.ndarray]:
    """43 points that rise up to x = 1, steeply, and lose the same from there on, but for noise."""
    x = np.geomspace(1e-3, 40, 43)
    return x, rising(np.minimum(x, 1)) + np.random.default_rng(4).normal(0, 0.005, 43)


def best_of_all(x: np.ndarray, y: np.ndarray) -> CurveFit:
    """Every distinct x as the breakpoint, by the rational fit to the points capped at it."""
    fits = []
    for place in np.unique(x)[1:].tolist():
        points = Points(np.minimum(x, place), y)
        fits.append(CurveFit(RationalFunction(2), points, RationalFunction(2).estimate(points)))
    return min(fits, key=lambda fit: fit.ssr)


# --- the fit ---------------------------------------------------------------------------------


def test_recovers_a_noiseless_breakpoint() -> None:
    x = np.linspace(0, 4, 41)
    fit = curve("segmented").estimate(x, rising(np.minimum(x, 1.5)))
    np.testing.assert_allclose(fit.params, [0.1, 0.3, 0.4, 0.1, 0.05, 1.5], rtol=1e-3)
    assert fit.ssr < 1e-12
    assert fit.monotone
    np.testing.assert_allclose(fit.predict([1.5, 2.7, 4, 1e9]), rising(np.array(1.5)), rtol=1e-6)
    assert fit.function.parameter_names == ("a0", "a1", "a2", "b1", "b2", "breakpoint")


@given(st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
def test_nine_breakpoints_are_all_weighed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.repeat(np.cumsum(rng.uniform(0.1, 1, 10)), 2)
    y = np.minimum(x, 2) + rng.normal(0, 0.3, 20)
    fit = curve("segmented").estimate(x, y)
    expected = best_of_all(x, y)
    assert fit.ssr == pytest.approx(expected.ssr, rel=1e-9)
    assert fit.params[-1] in x
    assert fit.monotone


@given(st.integers(0, 10_000), st.floats(0, 1))
@settings(max_examples=8, deadline=None)
def test_is_never_worse_than_the_rational_curve(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(-6, 2, 30)
    y = np.minimum(x / (1 + x), rng.uniform(0.1, 1)) + noise * rng.normal(size=30)
    fit = curve("segmented").estimate(x, y)
    assert fit.ssr <= curve("rational2").estimate(x, y).ssr
    assert fit.monotone
    steps = np.diff(fit.predict(np.geomspace(x.min(), x.max(), 2000)))
    assert steps.min() > -1e-9
    flat = fit.predict(np.geomspace(fit.params[-1], 1000, 20))
    np.testing.assert_array_equal(flat, flat[0])


@pytest.mark.parametrize(("noise", "seed"), [(0.005, 0), (0.02, 2), (0.1, 3), (0.1, 5)])
def test_finds_the_best_with_few_fits(
    noise: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    original = segmented._given

    def counted(points: Points, cap: float) -> CurveFit:
        tried.append(cap)
        return original(points, cap)

    monkeypatch.setattr(segmented, "_given", counted)
    x = np.geomspace(1e-3, 40, 43)
    y = rising(np.minimum(x, 1)) + np.random.default_rng(seed).normal(0, noise, 43)
    fit = curve("segmented").estimate(x, y)
    assert len(tried) == len(set(tried)) <= 20
    assert fit.ssr == pytest.approx(best_of_all(x, y).ssr, rel=1e-6)
    assert fit.ssr < curve("rational2").estimate(x, y).ssr
    if noise < 0.01:
        assert 0.9 < fit.params[-1] < 1.2  # the distinct x about 1 are 0.91 and 1.17
    np.testing.assert_array_equal(curve("segmented").fit(x, y).params, fit.params)


def test_without_a_breakpoint_it_is_the_rational_curve() -> None:
    x = np.geomspace(1e-3, 10, 40)
    fit, rational = (curve(name).estimate(x, rising(x)) for name in ("segmented", "rational2"))
    np.testing.assert_array_equal(fit.params, [*rational.params, x.max()])


def test_falling_points_give_their_mean() -> None:
    x = np.linspace(0, 1, 12)
    fit = curve("segmented").estimate(x, -x)
    np.testing.assert_allclose(fit.params[:5], [-0.5, 0, 0, 0, 0], atol=1e-15)
    assert fit.monotone


@pytest.mark.parametrize(("x_power", "y_power"), [(-40, 20), (30, -20)])
def test_units_do_not_matter(
    x_power: int, y_power: int, saturated: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = saturated
    expected = curve("segmented").estimate(x, y)
    scaled = curve("segmented").estimate(x * 2.0**x_power, y * 2.0**y_power)
    assert scaled.rsquared == pytest.approx(expected.rsquared, abs=1e-7)
    assert scaled.params[-1] == expected.params[-1] * 2.0**x_power


# --- a given breakpoint ----------------------------------------------------------------------


def test_given_breakpoint(saturated: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = saturated
    function = SegmentedFunction(breakpoint=0.9)
    fit = fit_curve(function, x, y)
    assert fit.function == function
    capped = curve("rational2").estimate(np.minimum(x, 0.9), y)
    np.testing.assert_array_equal(fit.params, capped.params)
    assert function.parameter_names == capped.function.parameter_names
    assert (fit.df_model, fit.df_resid) == (4, 38)
    np.testing.assert_array_equal(fit.predict([0.9, 1, 30]), fit.predict([0.9] * 3))
    assert fit.predict([0.8])[0] < fit.predict([0.9])[0]
    results = CurveModel(y, x, function=function).fit()
    expected = curve("rational2").fit(np.minimum(x, 0.9), y)
    np.testing.assert_allclose(results.bse, expected.bse)
    by_options = replace(curve("segmented"), options={"breakpoint": 0.9}).estimate(x, y)
    np.testing.assert_array_equal(by_options.params, fit.params)
    past_all = fit_curve(SegmentedFunction(breakpoint=99.0), x, y)
    np.testing.assert_array_equal(past_all.params, curve("rational2").estimate(x, y).params)


@pytest.mark.parametrize("given", [0.5, 1.0])
def test_no_points_below_the_breakpoint(given: float) -> None:
    with pytest.raises(DataError, match=rf"above the smallest x, 1, found {given:g}; give"):
        fit_curve(SegmentedFunction(breakpoint=given), range(1, 8), range(7))


def test_misuse() -> None:
    with pytest.raises(UsageError, match="expected a finite breakpoint, found nan"):
        SegmentedFunction(breakpoint=float("nan"))
    with pytest.raises(DataError, match="at least 6 points, found 5"):
        curve("segmented").estimate(range(5), range(5))
    assert SegmentedFunction(breakpoint=3.0).least_point_count == 5
    assert fit_curve(SegmentedFunction(breakpoint=3.0), range(5), range(5)).rsquared > 0.9


# --- the proof -------------------------------------------------------------------------------


def test_only_what_is_used_must_rise() -> None:
    # x / (1 - x / 2) has a pole at 2 and falls nowhere else.
    function, pole = SegmentedFunction(), [0.0, 1, 0, -0.5, 0]
    assert function.is_monotone([*pole, 1], 0, 10)
    assert not function.is_monotone([*pole, 3], 0, 10)
    assert not function.is_monotone([*pole, 2], 0, 10)
    assert function.is_monotone([*pole, 3], 0, 1)
    # x - x² turns at 1/2.
    assert function.is_monotone([0, 1, -1, 0, 0, 0.5], 0, 10)
    assert not function.is_monotone([0, 1, -1, 0, 0, 0.5 + 1e-9], 0, 10)


def test_constant_where_all_lies_past_the_breakpoint() -> None:
    function = SegmentedFunction()
    assert function.is_monotone([0, -1, 0, 0, 0, 1], 1, 5)
    assert not function.is_monotone([0, -1, 0, 0, 0, 1], 0.9, 5)
    assert not function.is_monotone([0, 1, 0, -0.5, 0, 2], 2, 5)  # at a pole


def test_parameters_that_are_not_finite() -> None:
    for i in range(6):
        for bad in (float("nan"), float("inf"), -float("inf")):
            params = [0.0, 1, 0, 0, 0, 1]
            params[i] = bad
            assert not SegmentedFunction().is_monotone(params, 0, 2)
            assert not SegmentedFunction().is_monotone(params, 3, 4)
    assert not SegmentedFunction(breakpoint=1.0).is_monotone([0, float("nan"), 0, 0, 0], 0, 2)


# --- statistics ------------------------------------------------------------------------------


def test_jacobian() -> None:
    params = np.array([0.1, 0.3, 0.4, 0.1, 0.05, 1.5])
    places = Places.of([0.0, 0.5, 1.4, 1.6, 3.0])
    function = SegmentedFunction()
    columns = []
    for i in range(6):
        step = 1e-6 * (np.arange(6) == i)
        rise = function.values(params + step, places) - function.values(params - step, places)
        columns.append(rise / 2e-6)
    np.testing.assert_allclose(function.jacobian(params, places), np.array(columns).T, atol=1e-8)
    given = SegmentedFunction(breakpoint=1.5)
    np.testing.assert_array_equal(
        given.jacobian(params[:5], places), function.jacobian(params, places)[:, :5]
    )


def test_standard_errors() -> None:
    x = np.linspace(0, 4, 81)
    y = rising(np.minimum(x, 1.5)) + np.random.default_rng(0).normal(0, 0.01, 81)
    results = curve("segmented").fit(x, y)
    assert (results.df_model, results.df_resid) == (5, 75)
    jacobian = results.model.function.jacobian(results.params, Places.of(x))
    covariance = results.ssr / 75 * np.linalg.inv(jacobian.T @ jacobian)
    np.testing.assert_allclose(results.bse, np.sqrt(np.diag(covariance)), rtol=1e-4)
    # The 50 points past it are known to 0.01 / 50^0.5 = 0.0014, the end of the curve of 31 points
    # and 5 parameters to about 0.01 * (2 * 5 / 31)^0.5 = 0.006, and the slope there is 0.95.
    assert results.bse[-1] == pytest.approx(0.006 / 0.95, rel=0.4)
    assert results.params[-1] == pytest.approx(1.5)
    assert "breakpoint" in str(results.summary())


def test_standard_error_of_a_breakpoint_that_is_none() -> None:
    x = np.geomspace(1e-3, 10, 40)
    y = rising(x) + np.random.default_rng(0).normal(0, 1e-4, 40) * (x < 0.1)
    results = curve("segmented").fit(x, y)
    assert results.params[-1] == x.max()
    rational = curve("rational2").fit(x, y)
    assert np.isnan(results.bse[-1])
    # One degree of freedom more is spent: 34 are left of 35.
    np.testing.assert_allclose(results.bse[:5], rational.bse * (35 / 34) ** 0.5, rtol=1e-6)
    wide = rational.get_prediction([0.1, 5]).se * (35 / 34) ** 0.5
    np.testing.assert_allclose(results.get_prediction([0.1, 5]).se, wide, rtol=1e-6)


def test_networks_give_standard_errors() -> None:
    x = np.tile(np.geomspace(0.01, 10, 12), 3)
    network = np.repeat(["A", "B", "C"], 12)
    y = rising(np.minimum(x, 2)) * np.repeat([0.9, 1, 1.1], 12)
    fit = curve("segmented").estimate(x, y, network=network)
    drawn = network_bootstrap(fit, draw_count=6)
    assert drawn.failed_count == 0
    assert all(one.monotone for one in drawn.fits)
    assert drawn.predictions(np.array([5.0])).std() > 0
