"""Prediction intervals: quantiles by hand, what they promise, and the published sweeps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqdb.curves import curve
from ptqdb.curves.function import CurveFit
from ptqdb.curves.points import Points
from ptqdb.errors import DataError
from ptqdb.fitting.intervals import HALF_WIDTH, LossPredictor, interval_score

RATIONAL = curve("rational2")


def networks(count: int, spread: float, seed: int, size: int = 43) -> Points:
    """Networks whose loss is a sigmoid of log x, each shifted by its own sensitivity."""
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e-3, 30, size)
    shifts = np.exp(rng.normal(0, spread, count))
    y = [x * s / (1 + x * s) + rng.normal(0, 0.005, size) for s in shifts]
    labels = np.repeat([f"N{i}" for i in range(count)], size)
    return Points(np.tile(x, count), np.concatenate(y), network=labels)


def predictor(points: Points) -> LossPredictor:
    assert points.network is not None
    return LossPredictor.of(points, RATIONAL, points.network)


def points_only(points: Points) -> CurveFit:
    """These points as a fit, of which only the points are asked."""
    return replace(RATIONAL.estimate(points.x, points.y), points=points)


def angle(loss: np.ndarray) -> np.ndarray:
    return np.array([np.arcsin(min(max(value, 0), 1) ** 0.5) for value in np.atleast_1d(loss)])


def test_bounds_are_weighted_quantiles_of_held_out_errors() -> None:
    points = networks(4, 0.4, seed=1)
    found = predictor(points)
    x = np.array([0.001, 0.3, 1.0, 25.0])
    predicted = found.predict(x)
    errors = points.y - found.held_out
    for place, loss in enumerate(found.fit.predict(x)):
        distance = np.abs(angle(found.held_out) - angle(loss))
        width = max(HALF_WIDTH, np.sort(distance)[39] * (1 + 1e-9))
        # every network has as many points, so that each weighs alike
        weights = np.clip(1 - (distance / width) ** 2, 0, None)
        order = np.argsort(errors)
        level = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
        low, high = np.interp([0.05, 0.95], level, errors[order])
        assert predicted.loss[place] == loss
        assert predicted.lower[place] == pytest.approx(loss + min(low, 0), abs=1e-12)
        assert predicted.upper[place] == pytest.approx(
            max(loss, min(1, loss + max(high, 0))), abs=1e-12
        )


def test_a_network_of_many_points_weighs_no_more_than_another() -> None:
    points = networks(3, 0.4, seed=2)
    assert points.network is not None
    twice = np.concatenate([np.arange(len(points)), np.flatnonzero(points.network == "N0")])
    whole, repeated = predictor(points), predictor(points.take(twice))
    weights = {
        name: whole._network_weights[points.network == name].sum() for name in ("N0", "N1", "N2")
    }
    assert weights == pytest.approx({"N0": 1, "N1": 1, "N2": 1})
    assert repeated._network_weights[repeated.units == "N0"].sum() == pytest.approx(1)


def test_the_coverage_of_a_unit_is_by_the_errors_of_the_others() -> None:
    points = networks(4, 0.4, seed=8)
    found = predictor(points)
    assert points.network is not None
    for name, share in found.unit_coverages(0.8).items():
        own = points.network == name
        rest = points_only(points.take(~own))
        others = LossPredictor(rest, found.held_out[~own], points.network[~own])
        # the errors of the others alone, around this unit's held-out predictions
        low, high = others._quantiles(found.held_out[own], np.full((~own).sum(), True), 0.1)
        error = (points.y - found.held_out)[own]
        inside = (np.minimum(low, 0) <= error) & (error <= np.maximum(high, 0))
        assert share == pytest.approx(np.mean(inside))
    # A network far from all others is not inside, whatever its own errors are.
    far = found.held_out + np.where(points.network == "N2", 0.5, 0)
    assert LossPredictor(found.fit, far, points.network).unit_coverages()["N2"] < 0.2


def test_intervals_are_narrow_where_curves_never_go_wrong() -> None:
    predicted = predictor(networks(6, 0.5, seed=3)).predict([0.001, 1.0, 30.0])
    width = predicted.upper - predicted.lower
    assert width[0] < width[1] / 5
    assert width[2] < width[1] / 2


def test_more_spread_between_networks_makes_wider_intervals() -> None:
    narrow = predictor(networks(6, 0.1, seed=4)).predict([1.0])
    wide = predictor(networks(6, 0.8, seed=4)).predict([1.0])
    assert (wide.upper - wide.lower) > 2 * (narrow.upper - narrow.lower)


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_bounds_hold_the_prediction_and_nest(seed: int) -> None:
    found = predictor(networks(3, 0.6, seed, size=12))
    x = np.geomspace(1e-4, 100, 40)
    inner, outer = found.predict(x, coverage=0.5), found.predict(x, coverage=0.95)
    for one in (inner, outer):
        assert np.all(one.lower <= one.loss)
        assert np.all(one.loss <= one.upper)
    assert np.all(outer.lower <= inner.lower + 1e-12)
    assert np.all(outer.upper >= inner.upper - 1e-12)
    assert np.all(inner.upper <= np.maximum(inner.loss, 1))


@pytest.mark.slow
def test_new_networks_fall_inside_as_often_as_promised() -> None:
    # Points of one network lie inside or outside together: many networks make a sharp test.
    found = predictor(networks(80, 0.5, seed=5, size=12))
    new = networks(500, 0.5, seed=6, size=12)
    for coverage in (0.8, 0.9):
        predicted = found.predict(new.x, coverage=coverage)
        inside = np.mean((predicted.lower <= new.y) & (new.y <= predicted.upper))
        assert inside == pytest.approx(coverage, abs=0.05)


def test_interval_score_by_hand() -> None:
    y, lower, upper = np.array([0.5, 0.7, 0.1]), np.full(3, 0.4), np.full(3, 0.6)
    np.testing.assert_allclose(interval_score(y, lower, upper, 0.9), [0.2, 2.2, 0.2 + 20 * 0.3])
    np.testing.assert_allclose(interval_score(y, lower, upper, 0.8), [0.2, 1.2, 0.2 + 10 * 0.3])


def test_too_few_networks_are_said() -> None:
    points = networks(2, 0.4, seed=7)
    with pytest.raises(DataError, match="two or more reference networks"):
        LossPredictor.of(points, RATIONAL, np.repeat("A", len(points)))
    few = points.take(np.arange(len(points)) < 45)  # the second network has two points
    with pytest.raises(DataError, match="without N0, found too few"):
        predictor(few)
