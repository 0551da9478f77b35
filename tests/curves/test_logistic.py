"""The logistic curve: held to statsmodels' GLM; its bounds; what points cannot carry it."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.families.links import Link
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import DomainWarning

from ptqdb.curves import curve
from ptqdb.errors import DataError


class UpToChance(Link):  # type: ignore[misc]
    """mu = f (1 - L expit(z)), of an f and an L per point."""

    def __init__(self, accuracy: np.ndarray, chance_loss: np.ndarray) -> None:
        self.accuracy, self.chance_loss = accuracy, chance_loss

    def __call__(self, p: Any) -> Any:
        share = (1 - p / self.accuracy) / self.chance_loss
        return np.log(share / (1 - share))

    def inverse(self, z: Any) -> Any:
        return self.accuracy * (1 - self.chance_loss * expit(z))

    def inverse_deriv(self, z: Any) -> Any:
        return -self.accuracy * self.chance_loss * expit(z) * expit(-z)

    def deriv(self, p: Any) -> Any:
        return 1 / self.inverse_deriv(self(p))


def sweep(
    const: float, slope: float, *, seed: int, networks: int = 1, spread: float = 0.0
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Counts drawn from the model; `spread` is that of further noise on the logit."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.geomspace(1e-4, 10, 43), networks)
    accuracy = np.repeat(rng.uniform(0.7, 0.95, networks), 43)
    images = np.full(len(x), 2000.0)
    chance_loss = 1 - 0.1 / accuracy
    logit = const + slope * np.log(x) + rng.normal(0, spread, len(x))
    mu = accuracy * (1 - chance_loss * expit(logit))
    y = 1 - rng.binomial(2000, mu) / images / accuracy
    return x, y, {"chance_loss": chance_loss, "float_accuracy": accuracy, "images": images}


def by_statsmodels(
    x: np.ndarray, y: np.ndarray, columns: dict[str, np.ndarray], start: np.ndarray
) -> Any:
    link = UpToChance(columns["float_accuracy"], columns["chance_loss"])
    correct = columns["float_accuracy"] * (1 - y)
    design = np.column_stack([np.ones_like(x), np.log(x)])
    family = Binomial(link, check_link=False)
    with pytest.warns(DomainWarning, match="UpToChance"):  # any link but its own
        model = GLM(correct, design, family=family, var_weights=columns["images"])
    return model.fit(scale="X2", start_params=start, tol=1e-13, maxiter=200)


# --- the oracle ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("const", "slope", "networks", "spread"),
    [(1.0, 1.5, 1, 0.0), (-3.0, 0.4, 1, 0.3), (2.0, 3.0, 4, 0.3), (0.0, 1.0, 9, 1.0)],
)
def test_is_the_glm_of_statsmodels(
    const: float, slope: float, networks: int, spread: float
) -> None:
    x, y, columns = sweep(const, slope, seed=5, networks=networks, spread=spread)
    results = curve("logistic").fit(x, y, **columns)
    expected = by_statsmodels(x, y, columns, np.array([const, slope]))
    np.testing.assert_allclose(results.params, expected.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results.bse, expected.bse, rtol=1e-5)
    np.testing.assert_allclose(results.cov_params(), expected.cov_params(), rtol=1e-4)
    correct = columns["float_accuracy"] * (1 - results.fittedvalues)
    np.testing.assert_allclose(correct, expected.fittedvalues, rtol=1e-5)


def test_the_dispersion_is_that_of_the_points() -> None:
    # 43 networks' worth of binomial noise: the dispersion is 1 but for chi's own spread, which
    # is root(2 / 1847) = 0.03. So the covariance is that of the information alone.
    x, y, columns = sweep(1.0, 1.5, seed=1, networks=43)
    results = curve("logistic").fit(x, y, **columns)
    expected = by_statsmodels(x, y, columns, results.params)
    assert expected.scale == pytest.approx(1, abs=0.1)
    once = curve("logistic").fit(x, y, **(columns | {"images": columns["images"] / 100}))
    np.testing.assert_allclose(once.params, results.params, rtol=1e-4)
    # Fewer images say less each, and the same scatter is then less than they explain.
    np.testing.assert_allclose(once.bse, results.bse, rtol=1e-3)


def test_zero_loses_nothing_and_counts() -> None:
    x, y, columns = sweep(1.0, 1.5, seed=5)
    more = {name: np.append(values, values[0]) for name, values in columns.items()}
    one = curve("logistic").fit(x, y, **columns)
    two = curve("logistic").fit(np.append(0, x), np.append(0, y), **more)
    assert two.fittedvalues[0] == 0
    np.testing.assert_allclose(two.params, one.params, rtol=1e-6)
    # It adds no information and no residual, only a degree of freedom: 41 / 42 of the variance.
    np.testing.assert_allclose(two.bse, one.bse * (41 / 42) ** 0.5, rtol=1e-6)


def test_jacobian_gives_the_errors_of_predictions() -> None:
    x, y, columns = sweep(1.0, 1.5, seed=5)
    results = curve("logistic").fit(x, y, **columns)
    prediction = results.get_prediction([0.5], chance_loss=[0.8])
    share = expit(results.params @ [1, np.log(0.5)])
    assert prediction.predicted[0] == pytest.approx(0.8 * share)
    slopes = 0.8 * share * (1 - share) * np.array([1, np.log(0.5)])
    assert prediction.se[0] == pytest.approx(np.sqrt(slopes @ results.cov_params() @ slopes))
    with pytest.raises(DataError, match="expected chance_loss"):
        results.get_prediction([0.5])


def test_a_quasi_likelihood_has_no_criteria() -> None:
    x, y, columns = sweep(1.0, 1.5, seed=5)
    results = curve("logistic").fit(x, y, **columns)
    assert np.isnan([results.llf, results.aic, results.bic]).all()
    assert "nan" in str(results.summary())


# --- bounds ----------------------------------------------------------------------------------


def test_a_loss_that_falls_gives_a_constant() -> None:
    x, y, columns = sweep(0.0, 1.0, seed=2)
    fit = curve("logistic").estimate(x, y[::-1], **columns)
    assert fit.params[1] == 0
    assert fit.monotone
    # One f, L and n for all: the best constant is the mean share of correct images.
    np.testing.assert_allclose(fit.fittedvalues, y.mean(), rtol=1e-6)
    assert fit.predict([-1], 0.5)[0] == fit.predict([1], 0.5)[0]  # both held in the range


def test_a_constant_is_still_zero_at_zero() -> None:
    x, y, columns = sweep(0.0, 1.0, seed=2)
    x, y = np.append(0, x), np.append(0, y[::-1])
    more = {name: np.append(values, values[0]) for name, values in columns.items()}
    fit = curve("logistic").estimate(x, y, **more)
    assert fit.params[1] == 0
    np.testing.assert_allclose(fit.fittedvalues, np.append(0, np.full(43, y[1:].mean())), rtol=1e-6)


def columns_of(count: int, accuracy: float = 0.8) -> dict[str, np.ndarray]:
    chance_loss = 1 - 0.1 / accuracy
    values = {"chance_loss": chance_loss, "float_accuracy": accuracy, "images": 1000}
    return {name: np.full(count, value) for name, value in values.items()}


def test_points_that_a_step_separates() -> None:
    x = np.geomspace(1e-3, 1, 30)
    y = np.where(x > 0.1, 0.875, 0.0)
    results = curve("logistic").fit(x, y, **columns_of(30))
    const, slope = results.params
    assert 10 < slope <= 100
    assert x[x < 0.1].max() < np.exp(-const / slope) < x[x > 0.1].min()
    np.testing.assert_allclose(results.fittedvalues, y, atol=1e-2)
    assert str(results.summary())


@pytest.mark.parametrize("level", [0.0, 0.875])
@pytest.mark.parametrize("accuracy", [0.8, 1.0])
def test_points_all_on_one_side(level: float, accuracy: float) -> None:
    x = np.geomspace(1e-3, 1, 30)
    y = np.full(30, min(level, 1 - 0.1 / accuracy))
    y[4] += 1e-3
    results = curve("logistic").fit(x, y, **columns_of(30, accuracy))
    assert np.all(np.isfinite(results.params))
    assert abs(results.params[0] + results.params[1] * np.log(x)).min() <= np.log(1e6) + 1e-9
    np.testing.assert_allclose(results.fittedvalues, y, atol=2e-3)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_whatever_the_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = 10 ** rng.uniform(-7, 1, 20), rng.uniform(-0.2, 1, 20)
    x[rng.random(20) < 0.2] = 0
    columns = columns_of(20)
    fit = curve("logistic").estimate(x, y, **columns)
    assert fit.monotone
    assert 0 <= fit.params[1] <= 100
    assert np.diff(fit.predict(np.append(0, np.geomspace(1e-8, 100, 500)), 0.875)).min() >= 0

    def deviance(params: np.ndarray) -> float:
        share = np.zeros(20)
        share[x > 0] = expit(params[0] + params[1] * np.log(x[x > 0]))
        mu, correct = 0.8 * (1 - 0.875 * share), 0.8 * (1 - y)
        return float(-2000 * np.sum(correct * np.log(mu) + (1 - correct) * np.log(1 - mu)))

    # Nothing close by, inside the bounds, is better.
    for step in rng.normal(0, 0.05, (30, 2)):
        near = fit.params + step
        if 0 <= near[1] <= 100 and near[0] + near[1] * np.log(x.max()) > -13:
            assert deviance(near) >= deviance(fit.params) - 1e-6 * deviance(fit.params)


def test_takes_milliseconds() -> None:
    x, y, columns = sweep(1.0, 1.5, seed=1, networks=9, spread=0.5)
    taken = []
    for _ in range(9):
        start = time.process_time()
        curve("logistic").estimate(x, y, **columns)
        taken.append(time.process_time() - start)
    assert np.median(taken) < 0.03


@pytest.mark.parametrize(
    ("params", "rises"),
    [([5, 0], True), ([-5, 2], True), ([0, -1e-300], False), ([np.nan, 1], False)],
)
def test_monotone_is_a_matter_of_signs(params: list[float], rises: bool) -> None:
    assert curve("logistic").function.is_monotone(params, 0, 1) is rises


# --- misuse ----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["chance_loss", "float_accuracy", "images"])
def test_needs_the_counts(missing: str) -> None:
    columns = columns_of(3)
    del columns[missing]
    with pytest.raises(DataError, match=f"expected {missing}, .* besides x and y, found none"):
        curve("logistic").estimate([1, 2, 3], [0, 0.1, 0.2], **columns)


@pytest.mark.parametrize(
    ("y", "changed"),
    [
        ([0, 0.1, 1.2], {}),  # fewer than no image correct
        ([0, 0.1, -0.3], {}),  # 0.8 * 1.3 = 1.04: more than all
        ([0, 10, 20], {}),  # percent
        ([0, 0.1, 0.2], {"images": [1000, 1000, 0]}),
        ([0, 0.1, 0.2], {"float_accuracy": [80, 0.8, 0.8]}),
        ([0, 0.1, 0.2], {"chance_loss": [0.9, 0.9, 1.1]}),
    ],
)
def test_what_is_no_count(y: list[float], changed: dict[str, list[float]]) -> None:
    with pytest.raises(DataError, match=r"found otherwise at [12] of 3 points; pass fractions"):
        curve("logistic").estimate([1, 2, 3], y, **(columns_of(3) | changed))


def test_no_network_better_than_chance() -> None:
    columns = columns_of(3) | {"chance_loss": np.array([0.9, 0, -0.1])}
    with pytest.raises(DataError, match="better than chance at a positive x, found none among 3"):
        curve("logistic").estimate([0, 2, 3], [0, 0.1, 0.2], **columns)
