"""Monotone smoothing splines: the least squares, their limits, cross-validation, statistics."""

import json
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.optimize import lsq_linear, nnls

from ptqdb.curves import curve, spline
from ptqdb.curves.bootstrap import network_bootstrap
from ptqdb.curves.function import CurveFit
from ptqdb.curves.points import Places, Points
from ptqdb.curves.spline import PENALTIES, SplineFunction
from ptqdb.errors import DataError, UsageError


def sigmoid(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = 0.1 + (0.2 * x + 0.8 * x**2) / (1 + 0.5 * x + x**2)
    return y


def sweep(networks: int, formats: int, seed: int = 7) -> Points:
    """Networks of their own steepness, x over ten decades, a tenth of them 0."""
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(-9, 1, (networks, formats))
    x[:, : formats // 10] = 0
    y = sigmoid(x * rng.uniform(0.5, 2, (networks, 1))) + rng.normal(0, 0.03, x.shape)
    names = np.repeat([f"Net_{i}" for i in range(networks)], formats)
    return Points(x.ravel(), y.ravel(), network=names)


def estimated(points: Points) -> CurveFit:
    return curve("spline").estimate(points.x, points.y, **points.columns)


def chosen(fit: CurveFit) -> SplineFunction:
    assert isinstance(fit.function, SplineFunction)
    return fit.function


def with_penalty(points: Points, penalty: float) -> CurveFit:
    function = replace(SplineFunction().prepared(points), penalty=penalty)
    return CurveFit(function, points, function.estimate(points))


def basis(function: SplineFunction, x: np.ndarray) -> np.ndarray:
    """B-splines one by one, by their recursion."""
    ends = [function.knots[0]] * 3, [function.knots[-1]] * 3
    knots = np.array([*ends[0], *function.knots, *ends[1]])
    count = len(knots) - 4
    return np.stack([BSpline(knots, np.eye(count)[i], 3)(x) for i in range(count)], axis=1)


def oracle(function: SplineFunction, points: Points) -> np.ndarray:
    """The coefficients by a bounded search over the first one and the increments."""
    design = basis(function, points.x)
    count = design.shape[1]
    sums = np.tri(count)
    bending = np.diff(np.eye(count), n=2, axis=0) * (len(points) * function.penalty) ** 0.5
    lower = np.array([-np.inf, *np.zeros(count - 1)])
    found = lsq_linear(
        np.vstack([design, bending]) @ sums,
        np.concatenate([points.y, np.zeros(count - 2)]),
        (lower, np.inf),
        tol=1e-14,
    )
    return np.asarray(sums @ found.x)


# --- the fit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1e-5, 1e-2, 10])
@pytest.mark.parametrize("noise", [0.03, 0.5])
def test_is_the_constrained_least_squares(penalty: float, noise: float) -> None:
    rng = np.random.default_rng(5)
    x = np.geomspace(1e-4, 10, 40)
    points = Points(x, sigmoid(x) + rng.normal(0, noise, 40))
    fit = with_penalty(points, penalty)
    expected = basis(chosen(fit), x) @ oracle(chosen(fit), points)
    np.testing.assert_allclose(fit.fittedvalues, expected, atol=1e-4)
    assert len(fit.params) == len(chosen(fit).knots) + 2 == 24


def test_without_a_penalty_only_the_rise_constrains() -> None:
    # x² is a spline whose coefficients rise: nothing is left of it.
    x = np.arange(7.0)
    assert with_penalty(Points(x, x**2), 1e-12).ssr < 1e-12
    points = sweep(1, 43)
    fit = with_penalty(points, 1e-12)
    design, count = basis(chosen(fit), points.x), len(fit.params)
    lower = np.array([-np.inf, *np.zeros(count - 1)])
    free = lsq_linear(design @ np.tri(count), points.y, (lower, np.inf), tol=1e-14)
    assert fit.ssr == pytest.approx(2 * free.cost, rel=1e-5)
    isotonic = curve("isotonic").estimate(points.x, points.y)
    assert isotonic.ssr < fit.ssr < with_penalty(points, 1e-2).ssr < with_penalty(points, 1e2).ssr


def test_a_large_penalty_gives_a_line_in_knot_index() -> None:
    points = sweep(1, 40)
    fit = with_penalty(points, 1e9)
    increments = np.diff(fit.params)
    np.testing.assert_allclose(increments, increments.mean(), rtol=1e-5)
    index = basis(chosen(fit), points.x) @ np.arange(len(fit.params))
    slope, start = np.polyfit(index, points.y, 1)
    np.testing.assert_allclose(fit.params, start + slope * np.arange(len(fit.params)), rtol=1e-4)
    assert fit.df_model + 1 == pytest.approx(2, abs=1e-4)


def test_falling_points_give_their_mean() -> None:
    x = np.geomspace(1e-5, 1, 30)
    fit = estimated(Points(x, -x))
    np.testing.assert_allclose(fit.params, -x.mean())
    assert fit.df_model == pytest.approx(0)
    assert fit.monotone
    assert chosen(fit).penalty == PENALTIES[0]


def test_follows_a_curve() -> None:
    x = np.concatenate([[0.0] * 4, np.geomspace(1e-9, 10, 60)])
    fit = estimated(Points(x, sigmoid(x)))
    np.testing.assert_allclose(fit.fittedvalues, sigmoid(x), atol=0.01)
    noisy = estimated(Points(x, sigmoid(x) + np.random.default_rng(1).normal(0, 0.05, 64)))
    assert np.sqrt(np.mean((noisy.fittedvalues - sigmoid(x)) ** 2)) < 0.025  # half the noise
    assert noisy.df_model < 12


@given(st.integers(0, 10_000), st.integers(4, 40), st.booleans())
@settings(max_examples=25, deadline=None)
def test_noise_is_fitted_monotone(seed: int, count: int, repeated: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = 10 ** rng.uniform(-9, 1, count), rng.normal(size=count)
    x[: count // 3] = 0
    if repeated:
        x = np.round(x)
        x[-1] = 11.0
    fit = estimated(Points(x, y))
    assert fit.monotone
    steps = np.diff(fit.predict(np.unique([*x, *np.geomspace(1e-9, 12, 2000)])))
    assert steps.min() > -1e-12
    assert curve("isotonic").estimate(x, y).ssr <= fit.ssr * (1 + 1e-9)
    assert fit.rsquared >= -1e-12
    assert 1 - 1e-9 <= fit.df_model + 1 <= min(count, len(fit.params)) + 1e-9


@given(st.integers(0, 10_000), st.integers(-20, 20), st.integers(-60, 20))
@settings(max_examples=6, deadline=None)
def test_units_order_and_reversal(seed: int, x_power: int, y_power: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.round(rng.uniform(0, 4, 30), 1)  # some of them twice
    y = sigmoid(x) + rng.normal(0, 0.1, 30)
    fit = estimated(Points(x, y))
    scaled = estimated(Points(x * 2.0**x_power, y * 2.0**y_power))
    np.testing.assert_allclose(scaled.params, fit.params * 2.0**y_power, rtol=1e-9)
    order = rng.permutation(30)
    np.testing.assert_allclose(estimated(Points(x[order], y[order])).params, fit.params, rtol=1e-6)
    turned = estimated(Points(-x, -y))
    assert chosen(turned).penalty == chosen(scaled).penalty == chosen(fit).penalty
    np.testing.assert_allclose(turned.predict(-x), -fit.fittedvalues, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-12, 1e9])
def test_decimal_units(factor: float) -> None:
    points = sweep(1, 43)
    expected = estimated(points)
    scaled = estimated(Points(points.x * factor, points.y / factor))
    assert scaled.rsquared == pytest.approx(expected.rsquared, abs=1e-9)


def test_two_places_of_x() -> None:
    fit = estimated(Points(np.array([0.0, 0, 0, 1, 1, 1]), np.array([0.0, 1, 2, 4, 5, 6])))
    assert fit.ssr == pytest.approx(4)  # 1 + 0 + 1 about each mean
    assert fit.df_model + 1 == pytest.approx(2)
    # However smooth, it is the same line but for rounding: the smoothest stands for all.
    noise = np.random.default_rng(0).normal(size=10)
    noisy = estimated(Points(np.repeat([0.0, 1], 5), np.repeat([0.0, 1], 5) + noise))
    assert chosen(noisy).penalty == PENALTIES[0]
    falling = estimated(Points(np.array([0.0, 0, 1, 1]), np.array([5.0, 6, 1, 2])))
    np.testing.assert_allclose(falling.params, 3.5)


def test_knots_are_quantiles_of_the_distinct_x() -> None:
    # Eleven distinct x have 5 inner knots, at the sixths of their ranks 0 to 10: 10 / 6 is two
    # thirds of the way from the x of rank 1 to that of rank 2.
    x = np.array([0.0] * 30 + [10.0**i for i in range(-9, 1)])
    knots = SplineFunction().prepared(Points(x, np.arange(40.0))).knots
    assert len(knots) == 7
    assert (knots[0], knots[3], knots[-1]) == (0, 1e-5, 1)
    assert knots[1] == pytest.approx(1e-9 + 2 / 3 * 9e-9)
    many = SplineFunction().prepared(Points(np.arange(400.0), np.arange(400.0)))
    assert len(many.knots) == 22


# --- cross-validation ------------------------------------------------------------------------


def left_out_error(points: Points, folds: np.ndarray, penalty: float) -> float:
    """The squared error on each fold of the fit to the others, with the knots of all points."""
    function = replace(SplineFunction().prepared(points), penalty=penalty)
    total = 0.0
    for fold in np.unique(folds).tolist():
        rest, held = points.take(folds != fold), points.take(folds == fold)
        fit = CurveFit(function, rest, oracle(function, rest))
        total += float(np.sum((held.y - fit.predict(held.x)) ** 2))
    return total


@pytest.mark.parametrize("networks", [1, 4])
def test_penalty_predicts_points_left_out(networks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spline, "PENALTIES", (1e2, 1.0, 1e-2, 1e-4))
    points = sweep(networks, 36, seed=11)
    if networks == 1:
        folds = np.argsort(np.lexsort((points.y, points.x))) % 10
    else:
        assert points.network is not None
        folds = np.unique(points.network, return_inverse=True)[1]
        # The last network reaches further than those that are to predict it.
        points = replace(points, x=np.where(folds == 3, points.x * 3, points.x))
    function = chosen(estimated(points))
    errors = [left_out_error(points, folds, penalty) for penalty in spline.PENALTIES]
    np.testing.assert_allclose(function.left_out_errors(points), errors, rtol=1e-3)
    assert sorted(errors)[1] > 1.001 * min(errors)  # the choice is not a matter of rounding
    assert function.penalty == spline.PENALTIES[int(np.argmin(errors))]


def test_what_is_left_can_be_of_one_x() -> None:
    network = np.repeat(["A", "B"], 4)
    points = Points(np.repeat([0.0, 1], 4), np.arange(8.0), network=network)
    fit = estimated(points)
    assert chosen(fit).left_out_errors(points).max() == 0
    assert chosen(fit).penalty == PENALTIES[0]
    assert fit.ssr == pytest.approx(10)  # 2.25 + 0.25 + 0.25 + 2.25, twice


def test_networks_that_differ_are_smoothed_more() -> None:
    # Each network alone is a line without noise, with a bump where no other has one: followed
    # by the fit that takes points as independent, of no use to the next network.
    x = np.tile(np.linspace(0, 1, 40), 4) + np.repeat([0, 0.001, 0.002, 0.003], 40)
    network = np.repeat(["A", "B", "C", "D"], 40)
    center = np.repeat([0.2, 0.4, 0.6, 0.8], 40)
    y = x + 2 * np.exp(-(((x - center) / 0.05) ** 2))
    together = chosen(curve("spline").estimate(x, y))
    apart = chosen(curve("spline").estimate(x, y, network=network))
    assert apart.penalty > together.penalty


# --- statistics ------------------------------------------------------------------------------


def test_degrees_of_freedom_are_the_trace_of_the_smoother() -> None:
    # The trace of dŷ/dy, by moving each y a little.
    points = sweep(1, 30, seed=2)
    function = SplineFunction().prepared(points)
    fit = CurveFit(function, points, function.estimate(points))
    assert 1 < np.sum(np.diff(fit.params) > 0) < len(fit.params) - 1  # some are tied, some free
    response = []
    for i in range(30):
        moved = replace(points, y=points.y + 1e-7 * (np.arange(30) == i))
        response.append((function.estimate(moved) - fit.params) / 1e-7)
    slopes = np.array(response).T
    assert fit.df_model + 1 == pytest.approx(np.trace(basis(function, points.x) @ slopes), abs=1e-4)
    s2 = fit.ssr / fit.df_resid
    np.testing.assert_allclose(
        function.covariance(fit.params, points), s2 * slopes @ slopes.T, rtol=1e-3, atol=1e-8
    )


def test_standard_errors_are_those_of_ols_where_nothing_binds() -> None:
    x = np.linspace(0, 1, 60)
    points = Points(x, 3 * x + 0.01 * np.sin(40 * x))
    fit = with_penalty(points, 0.0)
    assert np.all(np.diff(fit.params) > 0)
    expected = sm.OLS(points.y, basis(chosen(fit), x)).fit()
    assert fit.df_model == pytest.approx(len(fit.params) - 1)
    np.testing.assert_allclose(fit.params, expected.params, rtol=1e-6)
    model = curve("spline").model(x, points.y)
    model.function = fit.function
    results = model.results(fit.params)
    np.testing.assert_allclose(results.bse, expected.bse, rtol=1e-6)
    predicted = expected.get_prediction(basis(chosen(fit), np.array([0.3, 0.71])))
    np.testing.assert_allclose(results.get_prediction([0.3, 0.71]).se, predicted.se, rtol=1e-6)
    assert "c21" in str(results.summary())


def test_no_standard_error_where_no_degree_of_freedom_is_left() -> None:
    fit = with_penalty(Points(np.arange(4.0), np.array([0.0, 1, 2, 4])), 0.0)
    assert fit.df_resid == pytest.approx(0, abs=1e-9)
    assert np.isnan(fit.function.covariance(fit.params, fit.points)).all()


def test_bootstrap_keeps_knots_and_penalty() -> None:
    fit = estimated(sweep(4, 30))
    drawn = network_bootstrap(fit, draw_count=10)
    assert drawn.failed_count == 0
    assert {one.function for one in drawn.fits} == {fit.function}
    assert all(one.monotone for one in drawn.fits)
    assert drawn.predictions(np.array([1.0])).std() > 0


def test_proof() -> None:
    function = SplineFunction(knots=(0.0, 1.0))
    assert function.parameter_names == ("c0", "c1", "c2", "c3")
    assert function.is_monotone([0, 0, 1, 2], 0, 1)
    assert not function.is_monotone([0, -1e-300, 1, 2], 0, 1)
    # Sorted coefficients suffice and are not necessary: the slope of this curve, 3 (1.6 (1 - x)²
    # - 2.4 x (1 - x) + 1.6 x²), is positive (0.6 at 1/2), and yet nothing is proved of it.
    assert not function.is_monotone([0, 1.6, 0.4, 2], 0, 1)
    assert not function.is_monotone([0, 1, float("nan"), 2], 0, 1)
    assert not function.is_monotone([0, 1, 2, float("inf")], 0, 1)
    np.testing.assert_allclose(function.values([0, 1, 2, 3], Places.of([-5, 0.5, 8])), [0, 1.5, 3])


def test_can_be_written_and_read() -> None:
    fit = estimated(sweep(1, 20))
    text = json.dumps([asdict(chosen(fit)), fit.params.tolist()])
    fields, params = json.loads(text)
    again = SplineFunction(tuple(fields["knots"]), fields["penalty"])
    assert again == fit.function
    np.testing.assert_array_equal(again.values(params, Places(fit.x)), fit.fittedvalues)


# --- misuse and time -------------------------------------------------------------------------


def test_points_that_carry_no_spline(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="at least 4 points, found 3"):
        curve("spline").estimate([1, 2, 3], [1, 2, 3])
    with pytest.raises(UsageError, match=r"found one without; call prepared\(points\)"):
        SplineFunction().estimate(sweep(1, 20))
    monkeypatch.setattr(spline, "nnls", lambda above, goal, maxiter: nnls(above, goal, maxiter=1))
    with pytest.raises(DataError, match="choose another curve"):
        estimated(sweep(1, 20, seed=8))


@pytest.mark.parametrize(("networks", "formats", "limit_s"), [(1, 43, 0.15), (9, 45, 0.5)])
def test_is_quick(networks: int, formats: int, limit_s: float) -> None:
    points = sweep(networks, formats)
    estimated(points)
    start = time.process_time()
    estimated(points)
    assert time.process_time() - start < limit_s
