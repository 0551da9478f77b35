"""A line over log x: held to statsmodels' OLS; the floor under x; the slope that may fall."""

import numpy as np
import pytest
from statsmodels.api import OLS, add_constant

from ptqdb.curves import curve
from ptqdb.curves.linear import LinearFunction
from ptqdb.errors import DataError


@pytest.fixture
def noisy() -> tuple[np.ndarray, np.ndarray]:
    x = np.geomspace(1e-6, 30, 43)
    return x, 0.4 + 0.05 * np.log(x) + np.random.default_rng(7).normal(0, 0.03, 43)


def test_is_ordinary_least_squares(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = noisy
    results = curve("linear").fit(x, y)
    expected = OLS(y, add_constant(np.log(x))).fit()
    for name in ("params", "bse", "tvalues", "aic", "bic", "llf", "rsquared", "rsquared_adj"):
        np.testing.assert_allclose(getattr(results, name), getattr(expected, name), rtol=1e-9)
    np.testing.assert_allclose(results.conf_int(), expected.conf_int(), rtol=1e-9)
    assert (results.df_model, results.df_resid) == (expected.df_model, expected.df_resid)
    at = [1e-3, 2.0]
    prediction = results.get_prediction(at)
    by_ols = expected.get_prediction(add_constant(np.log(at)))
    np.testing.assert_allclose(prediction.predicted, by_ols.predicted_mean, rtol=1e-9)
    np.testing.assert_allclose(prediction.se, by_ols.se_mean, rtol=1e-9)


def test_zero_counts_as_the_smallest_positive_x() -> None:
    # log2(x) is -2 (for 0 too), -2, 0, 1, so that y = 3 + log2(x) everywhere.
    fit = curve("linear").estimate([0, 0.25, 1, 2], [1, 1, 3, 4])
    np.testing.assert_allclose(fit.params, [3, 1 / np.log(2)])
    np.testing.assert_allclose(fit.predict([-1, 0, 0.01, 0.5, 9]), [1, 1, 1, 2, 4])
    assert fit.function == LinearFunction(floor=0.25)


def test_a_falling_line_is_not_called_monotone() -> None:
    x = np.geomspace(1e-3, 1, 9)
    assert not curve("linear").estimate(x, -np.log(x)).monotone
    function = curve("linear").function
    assert function.is_monotone([-5, 0], 0, 1)
    assert not function.is_monotone([0, -1e-300], 0, 1)
    assert not function.is_monotone([np.nan, 1], 0, 1)
    assert not function.is_monotone([0, np.inf], 0, 1)


def test_networks_are_resampled_over_the_same_floor() -> None:
    # Without network a there is no x below 1; a draw's curve must count 0 as the pool's does.
    x = np.array([0.1, 1, 2, 0, 1, 4, 0, 2, 4])
    y = np.array([0, 1, 2, 0, 1, 3, 0.1, 1, 2])
    results = curve("linear").fit(x, y, network=np.repeat(["a", "b", "c"], 3))
    assert results.bootstrap is not None
    fits = results.bootstrap.fits
    assert {fit.function for fit in fits} == {LinearFunction(floor=0.1)}
    expected = np.cov([fit.params for fit in fits], rowvar=False)
    np.testing.assert_allclose(results.cov_params(), expected)


@pytest.mark.parametrize("x", [[0, 0, 3], [-1, -2, 0]])
def test_points_that_carry_no_line(x: list[float]) -> None:
    with pytest.raises(DataError, match=r"expected two different positive x, found [01] among 3"):
        curve("linear").estimate(x, [0, 1, 2])
