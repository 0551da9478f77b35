"""The mixed line: held to MixedLM, to dense matrices and to the analysis of variance."""

import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import multivariate_normal
from statsmodels.regression.mixed_linear_model import MixedLM

from ptqdb.curves import curve
from ptqdb.errors import DataError


def sweep(
    seed: int, *, networks: int = 5, count: int = 12, network_sd: float = 0.2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and network of lines that differ by their intercept; the counts of points differ."""
    rng = np.random.default_rng(seed)
    counts = count + np.arange(networks)
    network = np.repeat([f"net{i}" for i in range(networks)], counts)
    x = 10 ** rng.uniform(-5, 1, len(network))
    shift = np.repeat(rng.normal(0, network_sd, networks), counts)
    return x, 0.5 + 0.06 * np.log(x) + shift + rng.normal(0, 0.1, len(x)), network


def dense(
    x: np.ndarray, network: np.ndarray, network_sd: float, residual_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """The design and the covariance of y, written out."""
    same = network[:, None] == network[None, :]
    design = np.column_stack([np.ones_like(x), np.log(x)])
    return design, network_sd**2 * same + residual_sd**2 * np.eye(len(x))


def restricted(
    x: np.ndarray, y: np.ndarray, network: np.ndarray, network_sd: float, residual_sd: float
) -> float:
    """The restricted log-likelihood but for a constant, by the textbook (Harville, 1977)."""
    design, covariance = dense(x, network, network_sd, residual_sd)
    inverse = np.linalg.inv(covariance)
    gram = design.T @ inverse @ design
    resid = y - design @ np.linalg.solve(gram, design.T @ inverse @ y)
    logs = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(gram)[1]
    return float(-(logs + resid @ inverse @ resid) / 2)


# --- the oracles -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_is_the_mixed_model_of_statsmodels(seed: int) -> None:
    x, y, network = sweep(seed)
    results = curve("mixed").fit(x, y, network=network)
    design = np.column_stack([np.ones_like(x), np.log(x)])
    expected = MixedLM(y, design, groups=network).fit(reml=True, gtol=1e-8)
    assert expected.converged
    np.testing.assert_allclose(results.params[:2], expected.fe_params, rtol=1e-4)
    np.testing.assert_allclose(results.bse[:2], expected.bse_fe, rtol=1e-3)
    np.testing.assert_allclose(results.params[2] ** 2, expected.cov_re[0, 0], rtol=1e-2)
    np.testing.assert_allclose(results.params[3] ** 2, expected.scale, rtol=1e-3)


@pytest.mark.parametrize("network_sd", [0.0, 0.03, 0.2, 30.0])
def test_no_other_variances_have_more_restricted_likelihood(network_sd: float) -> None:
    x, y, network = sweep(8, network_sd=network_sd)
    params = curve("mixed").estimate(x, y, network=network).params
    best = restricted(x, y, network, *params[2:])
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert restricted(x, y, network, params[2] * factor, params[3]) <= best + 1e-9
        assert restricted(x, y, network, params[2], params[3] * factor) < best
    for other in np.geomspace(1e-3, 100, 40):
        assert restricted(x, y, network, other, params[3]) <= best + 1e-9


def test_balanced_points_are_the_analysis_of_variance() -> None:
    # Networks a and b at the same log x = 0, 1, 2: y = 0, 2, 1 and 3, 6, 6, of means 1 and 5.
    # Within: slope = (0.5 + 1.5) / 2 = 1, residuals a: 0, 1, -1 and b: -1, 1, 0; their squares
    # sum to 4 over 6 - 2 - 1 = 3 degrees of freedom: variance 4/3. Between: 3 * (1 - 3)² +
    # 3 * (5 - 3)² = 24 with 1 degree of freedom is 3 * network variance + 4/3, so that the
    # former is (24 - 4/3) / 3 = 68/9. The line passes (1, 3).
    x = np.exp([0, 1, 2, 0, 1, 2])
    results = curve("mixed").fit(x, [0, 2, 1, 3, 6, 6], network=list("aaabbb"))
    np.testing.assert_allclose(results.params[:2], [2, 1], atol=1e-7)
    np.testing.assert_allclose(results.params[2:] ** 2, [68 / 9, 4 / 3], rtol=1e-6)
    # Slope's variance: 4/3 over the sum of squares of log x within networks, 2 + 2.
    assert results.bse[1] == pytest.approx((4 / 3 / 4) ** 0.5)
    # That of the line at the middle of log x: the mean of two network means.
    prediction = results.get_prediction([np.e])
    assert prediction.predicted[0] == pytest.approx(3)
    assert prediction.se[0] == pytest.approx(((68 / 9 + 4 / 3 / 3) / 2) ** 0.5)


def test_likelihood_is_the_marginal_one() -> None:
    x, y, network = sweep(3)
    results = curve("mixed").fit(x, y, network=network)
    design, covariance = dense(x, network, *results.params[2:])
    llf = multivariate_normal.logpdf(y, design @ results.params[:2], covariance)
    assert results.llf == pytest.approx(llf)
    assert results.aic == pytest.approx(2 * 3 - 2 * llf)
    assert results.bic == pytest.approx(np.log(len(x)) * 3 - 2 * llf)
    # Networks that differ by twice the residuals' spread: the line alone is far less likely.
    assert results.aic < curve("linear").estimate(x, y).aic - 20


# --- what the frame makes of it --------------------------------------------------------------


def test_networks_are_not_resampled() -> None:
    x, y, network = sweep(3)
    results = curve("mixed").fit(x, y, network=network)
    assert results.bootstrap is None
    assert results.cov_type == "nonrobust"
    assert np.isfinite(results.bse[:2]).all()
    assert np.isnan(results.bse[2:]).all()
    assert np.isnan(results.cov_params()[0, 2])
    assert np.isfinite(results.get_prediction([1e-3, 1]).se).all()
    text = str(results.summary())
    for word in ("const", "log_x", "network_sd", "residual_sd", "nonrobust"):
        assert word in text
    assert curve("linear").fit(x, y, network=network).cov_type == "network bootstrap"


def test_r_squared_is_of_the_line_alone() -> None:
    x, y, network = sweep(3)
    results = curve("mixed").fit(x, y, network=network)
    line = results.params[0] + results.params[1] * np.log(x)
    tss = np.sum((y - y.mean()) ** 2)
    assert results.rsquared == pytest.approx(1 - np.sum((y - line) ** 2) / tss)
    # Least squares without intercepts is the most that any line explains.
    assert results.rsquared <= curve("linear").estimate(x, y).rsquared
    np.testing.assert_allclose(results.predict([0.01]), results.params[:2] @ [1, np.log(0.01)])


# --- the edges -------------------------------------------------------------------------------


def test_networks_alike_are_ordinary_least_squares() -> None:
    # Every network has the same points, so that they differ by less than by chance.
    x = np.tile(np.geomspace(1e-3, 1, 9), 3)
    y = np.tile(0.5 + np.random.default_rng(0).normal(0, 0.1, 9), 3)
    results = curve("mixed").fit(x, y, network=np.repeat(["a", "b", "c"], 9))
    expected = curve("linear").fit(x, y)
    assert results.params[2] == 0
    np.testing.assert_allclose(results.params[:2], expected.params, rtol=1e-9)
    np.testing.assert_allclose(results.bse[:2], expected.bse, rtol=1e-9)
    assert results.params[3] ** 2 == pytest.approx(expected.ssr / 25)


def test_parallel_lines_without_noise() -> None:
    x = np.tile(np.geomspace(1e-3, 1, 9), 2)
    y = 0.1 * np.log(x) + np.repeat([0.0, 1.0], 9)
    results = curve("mixed").fit(x, y, network=np.repeat(["a", "b"], 9))
    np.testing.assert_allclose(results.params[:2], [0.5, 0.1], atol=1e-6)
    # The variance between two intercepts is 0.5, up to the bound of 1e8 residual variances.
    assert 0 < results.params[3] < 0.01 * results.params[2]
    assert np.isfinite(results.llf)


@pytest.mark.parametrize(("x_factor", "y_factor"), [(1e-9, 1e-6), (1e6, 1e6)])
def test_units_do_not_matter(x_factor: float, y_factor: float) -> None:
    x, y, network = sweep(2)
    expected = curve("mixed").estimate(x, y, network=network)
    scaled = curve("mixed").estimate(x * x_factor, y * y_factor, network=network)
    np.testing.assert_allclose(scaled.params[1:] / y_factor, expected.params[1:], rtol=1e-5)
    np.testing.assert_allclose(
        scaled.fittedvalues / y_factor, expected.fittedvalues, rtol=1e-5, atol=1e-6
    )


def test_zero_counts_as_the_smallest_positive_x() -> None:
    x, y, network = sweep(2)
    floor = x.min()
    at_zero = np.where(x == floor, 0.0, x)
    second = np.sort(x)[1]
    expected = curve("mixed").estimate(np.where(x == floor, second, x), y, network=network)
    found = curve("mixed").estimate(at_zero, y, network=network)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-6)
    assert found.predict([0.0])[0] == found.predict([second])[0]


def test_a_falling_line_is_not_called_monotone() -> None:
    function = curve("mixed").function
    assert function.is_monotone([0, 1, 0, 1], 0, 1)
    assert not function.is_monotone([0, -1, 0, 1], 0, 1)
    assert not function.is_monotone([0, 1, np.nan, 1], 0, 1)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("aaaaa", "points of two networks or more, found one"),
        ("abcde", "at least 7 points of 5 networks, found 5"),
        ("abccd", "at least 6 points of 4 networks, found 5"),
    ],
)
def test_points_that_carry_no_mixed_line(network: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        curve("mixed").estimate([1, 2, 3, 4, 5], [0, 1, 1, 2, 3], network=list(network))
    with pytest.raises(DataError, match="expected network, the network of each point"):
        curve("mixed").estimate([1, 2, 3, 4, 5], [0, 1, 1, 2, 3])


# --- the published sweeps --------------------------------------------------------------------


def test_published_sweeps() -> None:
    folder = os.environ.get("PTQDB_TEST_DATA")
    if folder is None or not (Path(folder) / "published").is_dir():
        pytest.skip("PTQDB_TEST_DATA names no folder with published/points.csv")
    points = pl.read_csv(Path(folder) / "published" / "points.csv")
    seconds = []
    for study in points["study"].unique().sort():
        rows = points.filter(pl.col("study") == study)
        x, y = rows["js_flops"].to_numpy(), rows["acc_loss"].to_numpy()
        x = np.maximum(x, x[x > 0].min())
        network = rows["network"].to_numpy()
        start = time.process_time()
        params = curve("mixed").estimate(x, y, network=network).params
        seconds.append(time.process_time() - start)
        assert params[1] > 0
        # MixedLM's own optimizer gives up on one of the five; the likelihood speaks for itself.
        best = restricted(x, y, network, *params[2:])
        for factor in (0.8, 0.97, 1.03, 1.25):
            assert restricted(x, y, network, params[2] * factor, params[3]) < best
            assert restricted(x, y, network, params[2], params[3] * factor) < best
    assert len(seconds) == 5
    assert np.median(seconds) < 0.1
