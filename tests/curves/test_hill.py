"""Hill curves: the fit and its bounds, the statistics, and what points cannot carry them."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, curve_fit, isotonic_regression, minimize
from scipy.special import expit

from ptqdb.curves import curve
from ptqdb.curves.sigmoid import SigmoidSearch, safe_log
from ptqdb.errors import DataError

NAMES = ("hill", "hill_chance")


def formula(x: np.ndarray, height: float | np.ndarray, x0: float, k: float) -> np.ndarray:
    y: np.ndarray = height / (1 + (x0 / x) ** k)
    return y


@pytest.fixture
def noisy() -> tuple[np.ndarray, np.ndarray]:
    x = np.geomspace(1e-6, 10, 43)
    return x, formula(x, 0.8, 0.05, 0.7) + np.random.default_rng(3).normal(0, 0.03, 43)


# --- the fit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.2, 1.0, 8.0])
@pytest.mark.parametrize("x0", [1e-6, 3e-3, 10.0])
def test_finds_the_parameters_again(x0: float, k: float) -> None:
    x = np.append(0.0, np.geomspace(1e-9, 10, 60))
    y = np.append(0.0, formula(x[1:], 0.9, x0, k))
    np.testing.assert_allclose(curve("hill").estimate(x, y).params, [0.9, x0, k], rtol=1e-5)
    fit = curve("hill_chance").estimate(x, y, chance_loss=np.full(61, 0.9))
    np.testing.assert_allclose(fit.params, [x0, k], rtol=1e-5)


def test_each_network_has_its_own_height() -> None:
    x = np.tile(np.geomspace(1e-3, 10, 20), 3)
    chance = np.repeat([0.9, 0.6, -0.1], 20)
    # The third is worse than chance before it is quantized: it counts as having nothing to lose.
    y = np.maximum(chance, 0) * formula(x, 1.0, 0.2, 1.5)
    fit = curve("hill_chance").estimate(x, y, chance_loss=chance)
    np.testing.assert_allclose(fit.params, [0.2, 1.5], rtol=1e-6)
    np.testing.assert_allclose(fit.predict([0.2, 0.2], [0.9, 0.6]), [0.45, 0.3], rtol=1e-6)
    assert fit.predict([0.2], -0.1) == pytest.approx(0.0)
    with pytest.raises(DataError, match=r"expected chance_loss.* for each x.*pass chance_loss"):
        fit.predict([0.2])


@pytest.mark.parametrize("name", NAMES)
def test_without_damage_there_is_no_loss(name: str, noisy: tuple[np.ndarray, np.ndarray]) -> None:
    """The curve falls to 0 below the smallest x of the points; others stop there."""
    x, y = noisy[0][20:], noisy[1][20:]
    fit = curve(name).estimate(x, y, chance_loss=np.full(23, 0.8))
    lower = fit.predict([0.0, x[0] / 1000, x[0] / 10, x[0]], 0.8)
    assert lower[0] == 0.0
    assert np.all(np.diff(lower) > 0)
    assert fit.domain == (0.0, x[-1])
    results = curve(name).fit(x, y, chance_loss=np.full(23, 0.8))
    np.testing.assert_array_equal(results.predict([0.0, x[0] / 10], chance_loss=0.8), lower[[0, 2]])
    other = curve("rational2").estimate(x, y)
    np.testing.assert_array_equal(other.predict([0.0]), other.predict([x[0]]))


@pytest.mark.parametrize("name", NAMES)
def test_zero_is_zero(name: str, noisy: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = np.append(0.0, noisy[0]), np.append(0.02, noisy[1])
    fit = curve(name).estimate(x, y, chance_loss=np.full(44, 0.8))
    assert fit.fittedvalues[0] == 0.0
    # What lies at 0 costs 0.02² whatever the parameters, and so does not move them.
    without = curve(name).estimate(*noisy, chance_loss=np.full(43, 0.8))
    np.testing.assert_allclose(fit.params, without.params, rtol=1e-5)
    assert fit.ssr == pytest.approx(without.ssr + 0.02**2)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_least_squares_whatever_the_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = 10 ** rng.uniform(-7, 1, 20), rng.normal(size=20)
    fit = curve("hill").estimate(x, y)
    assert fit.monotone
    assert np.all(np.isfinite(fit.params))
    assert fit.ssr <= float(y @ y) + 1e-12  # A = 0
    # No non-decreasing curve can beat isotonic regression.
    ascending = y[np.argsort(x)]
    assert fit.ssr >= np.sum((ascending - isotonic_regression(ascending).x) ** 2) - 1e-9
    steps = np.diff(fit.predict(np.geomspace(1e-8, 100, 2000)))
    assert steps.min() >= 0


@pytest.mark.parametrize("seed", range(6))
def test_no_other_start_leads_lower(seed: int) -> None:
    # Two thirds of the points rise, the others are outliers; the simplex searches from 40 places.
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(-6, 1, 30)
    y = np.where(rng.random(30) < 0.67, formula(x, 0.9, 0.01, 1.2), rng.random(30))
    found = [
        minimize(
            lambda z: float(np.sum((y - z[0] * expit(np.exp(z[2]) * (np.log(x) - z[1]))) ** 2)),
            [0.8, np.log(x0), np.log(k)],
            method="Nelder-Mead",
            options={"maxiter": 2000, "xatol": 1e-8, "fatol": 1e-12},
        )
        for x0 in np.geomspace(1e-6, 10, 10)
        for k in (0.3, 1.0, 3.0, 10.0)
    ]
    inside = [
        result.fun
        for result in found
        if abs(result.x[2]) < np.log(100) and np.log(1e-9) < result.x[1] < np.log(1e4)
    ]
    tss = np.sum((y - y.mean()) ** 2)
    assert curve("hill").estimate(x, y).ssr <= min(inside) + 1e-3 * tss


def test_gradient_of_the_search() -> None:
    rng = np.random.default_rng(1)
    log_x, y = (
        safe_log(np.append(0, 10 ** rng.uniform(-4, 1, 9))),
        rng.uniform(0, 1, 10),
    )
    for ceiling in (None, rng.uniform(0.5, 1, 10)):
        search = SigmoidSearch(log_x, y, ceiling)
        for z in ([0.3, 0.2], [-0.2, -0.9], [0.1, 0.05]):
            numeric = approx_fprime(np.array(z), search._residuals, 1e-7)
            np.testing.assert_allclose(search._gradient(np.array(z)), numeric, atol=2e-5)


@pytest.mark.parametrize("x_factor", [1e-12, 1e9])
@pytest.mark.parametrize("y_factor", [1e-6, 1e6])
def test_units_do_not_matter(
    x_factor: float, y_factor: float, noisy: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = noisy
    expected = curve("hill").estimate(x, y).params * [y_factor, x_factor, 1]
    scaled = curve("hill").estimate(x * x_factor, y * y_factor).params
    np.testing.assert_allclose(scaled, expected, rtol=1e-4)


# --- bounds ----------------------------------------------------------------------------------


def test_a_power_law_has_no_height() -> None:
    # y = x² has no height: x0 goes to its bound, 1e6^(1/k) times the largest x, and A with it.
    x = np.geomspace(1e-3, 1, 30)
    fit = curve("hill").estimate(x, x**2)
    height, x0, k = fit.params
    assert x0 == pytest.approx(1e6 ** (1 / k), rel=0.05)
    assert height == pytest.approx(1e6, rel=0.1)
    np.testing.assert_allclose(fit.fittedvalues, x**2, atol=1e-4)


def test_a_step_has_the_largest_steepness() -> None:
    x = np.geomspace(1e-3, 1, 30)
    y = np.where(x > 0.1, 0.9, 0.0)
    height, x0, k = curve("hill").estimate(x, y).params
    assert height == pytest.approx(0.9, abs=1e-3)
    assert x[x < 0.1].max() < x0 < x[x > 0.1].min()
    assert 20 < k <= 100


def test_points_below_zero_give_zero() -> None:
    x = np.geomspace(1e-3, 1, 12)
    fit = curve("hill").estimate(x, -x)
    assert fit.params[0] == 0
    assert fit.ssr == pytest.approx(np.sum(x**2))
    assert fit.monotone
    assert np.isnan(curve("hill").fit(x, -x).bse).all()


def test_all_at_chance() -> None:
    x, y = np.geomspace(1e-3, 1, 12), np.full(12, 0.9)
    y[3] += 1e-3
    for name in NAMES:
        fit = curve(name).estimate(x, y, chance_loss=np.full(12, 0.9))
        np.testing.assert_allclose(fit.fittedvalues, 0.9, atol=1e-3)


@pytest.mark.parametrize(
    ("params", "rises"),
    [
        ([0.9, 0.1, 1], True),
        ([0, 0.1, 1], True),
        ([-1e-9, 0.1, 1], False),
        ([0.9, 0, 1], False),
        ([0.9, 0.1, 0], False),
        ([0.9, 0.1, -1], False),
        ([np.nan, 0.1, 1], False),
        ([0.9, np.inf, 1], False),
        ([0.9, 0.1, np.nan], False),
    ],
)
def test_monotone_is_a_matter_of_signs(params: list[float], rises: bool) -> None:
    assert curve("hill").function.is_monotone(params, 0, 1) is rises
    if params[0] == 0.9:
        assert curve("hill_chance").function.is_monotone(params[1:], 0, 1) is rises


# --- statistics ------------------------------------------------------------------------------


def test_standard_errors_are_those_of_scipy(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = noisy
    results = curve("hill").fit(x, y)
    params, covariance = curve_fit(formula, x, y, p0=[0.7, 0.1, 1], xtol=1e-12, ftol=1e-12)
    np.testing.assert_allclose(results.params, params, rtol=1e-4)
    np.testing.assert_allclose(results.bse, np.sqrt(np.diag(covariance)), rtol=1e-3)
    np.testing.assert_allclose(results.cov_params(), covariance, rtol=1e-2)
    llf = -43 / 2 * (np.log(2 * np.pi * results.ssr / 43) + 1)
    assert results.aic == pytest.approx(2 * 3 - 2 * llf)
    assert results.df_resid == 40


def test_standard_errors_below_chance(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = noisy
    chance = np.linspace(0.7, 0.9, 43)
    results = curve("hill_chance").fit(x, y, chance_loss=chance)

    def below(x: np.ndarray, x0: float, k: float) -> np.ndarray:
        return formula(x, chance, x0, k)

    params, covariance = curve_fit(below, x, y, p0=[0.1, 1], xtol=1e-12, ftol=1e-12)
    np.testing.assert_allclose(results.params, params, rtol=1e-4)
    np.testing.assert_allclose(results.bse, np.sqrt(np.diag(covariance)), rtol=1e-3)
    np.testing.assert_allclose(results.cov_params(), covariance, rtol=1e-2)
    predicted = results.get_prediction([0.5], chance_loss=[0.9])
    slopes = approx_fprime(results.params, lambda p: 0.9 * formula(np.array(0.5), 1.0, *p), 1e-7)
    assert predicted.se[0] == pytest.approx(np.sqrt(slopes @ covariance @ slopes), rel=1e-3)


def test_several_networks_are_resampled(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = noisy
    network = np.repeat(["a", "b", "c"], [15, 14, 14])
    results = curve("hill_chance").fit(x, y, chance_loss=np.full(43, 0.8), network=network)
    assert results.cov_type == "network bootstrap"
    assert np.all(results.bse > 0)
    assert results.get_prediction([0.1], chance_loss=[0.8]).se[0] > 0


@pytest.mark.parametrize(("count", "seconds"), [(43, 0.02), (400, 0.03)])
def test_takes_milliseconds(count: int, seconds: float) -> None:
    x = np.geomspace(1e-6, 10, count)
    y = formula(x, 0.8, 0.05, 0.7) + np.random.default_rng(3).normal(0, 0.1, count)
    taken = []
    for _ in range(9):
        start = time.process_time()
        curve("hill").estimate(x, y)
        taken.append(time.process_time() - start)
    assert np.median(taken) < seconds


# --- misuse ----------------------------------------------------------------------------------


def test_points_that_carry_no_curve() -> None:
    with pytest.raises(DataError, match="at least 3 points, found 2"):
        curve("hill").estimate([1, 2], [0, 1])
    with pytest.raises(DataError, match=r"expected a positive x, found none among 4 points"):
        curve("hill").estimate([0, -1, -2, -3], [0, 1, 2, 3])
    with pytest.raises(DataError, match=r"expected chance_loss, the loss of a network that gues"):
        curve("hill_chance").estimate([1, 2, 3], [0, 1, 2])
    with pytest.raises(DataError, match=r"better than chance at a positive x, found none among 3"):
        curve("hill_chance").estimate([0, 2, 3], [0, 1, 2], chance_loss=[0.9, 0, -0.1])
