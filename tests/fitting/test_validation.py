"""Leaving networks out: by hand, and against fits made one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ptqdb.curves import curve
from ptqdb.curves.points import Points
from ptqdb.fitting import cross_validation as validation
from ptqdb.fitting.cross_validation import (
    MOST_FOLDS,
    HeldOut,
    assign_folds,
    leave_out,
    nested_folds,
)

RATIONAL = curve("rational2")


def three_networks() -> Points:
    """Three networks of 8 points; each loses another share of x / (1 + x)."""
    x = np.tile(np.geomspace(0.01, 20, 8), 3) * np.repeat([1.0, 1.3, 0.7], 8)
    y = x / (1 + x) * np.repeat([0.9, 1.0, 0.6], 8)
    return Points(x, y, network=np.repeat(["A", "B", "C"], 8))


def names(points: Points) -> NDArray[np.str_]:
    assert points.network is not None
    return points.network


def test_figures_by_hand() -> None:
    held_out = HeldOut(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.5, 0.7]), np.ones(3))
    assert held_out.r_squared == pytest.approx(1 - (0.01 + 0 + 0.09) / 0.5)
    assert held_out.rmse == pytest.approx((0.1 / 3) ** 0.5)
    assert held_out.median_error == pytest.approx(0.1)
    part = held_out.where(np.array([True, False, True]))
    assert part.median_error == pytest.approx(0.2)
    # about the mean of those two points, not of the three
    assert part.r_squared == pytest.approx(1 - 0.1 / 0.5)


def test_what_cannot_be_told_is_none() -> None:
    unknown = HeldOut(np.array([0.0, 1.0]), np.array([0.5, np.nan]), np.ones(2))
    assert (unknown.r_squared, unknown.rmse, unknown.median_error) == (None, None, None)
    flat = HeldOut(np.array([0.5, 0.5]), np.array([0.5, 0.7]), np.ones(2))
    assert flat.r_squared is None
    assert flat.rmse == pytest.approx(0.2 / 2**0.5)
    empty = HeldOut(np.empty(0), np.empty(0), np.empty(0))
    assert (empty.r_squared, empty.rmse, empty.median_error) == (None, None, None)


def test_no_network_is_seen_by_its_own_predictions() -> None:
    points = three_networks()
    predicted = leave_out(points, RATIONAL, assign_folds(names(points))).predicted
    for name in "ABC":
        rest = points.take(names(points) != name)
        left = points.take(names(points) == name)
        expected = RATIONAL.estimate(rest.x, rest.y).predict(left.x)
        np.testing.assert_array_equal(predicted[names(points) == name], expected)
    # Whatever A lost, its own predictions are the same.
    moved = Points(
        points.x, points.y * np.where(names(points) == "A", 0.1, 1), network=names(points)
    )
    again = leave_out(moved, RATIONAL, assign_folds(names(points))).predicted
    np.testing.assert_array_equal(again[names(points) == "A"], predicted[names(points) == "A"])
    assert np.abs(again - predicted)[names(points) != "A"].max() > 0.05


def test_twins_are_left_out_together() -> None:
    points = three_networks()
    units = np.repeat(["AB", "AB", "C"], 8)
    predicted = leave_out(points, RATIONAL, assign_folds(units)).predicted
    alone = points.take(units == "C")
    expected = RATIONAL.estimate(alone.x, alone.y).predict(points.x[units == "AB"])
    np.testing.assert_array_equal(predicted[units == "AB"], expected)


def test_too_few_others_are_no_prediction() -> None:
    points = three_networks()
    one_unit = leave_out(points, RATIONAL, assign_folds(np.repeat(["A"], 24)))
    assert np.isnan(one_unit.predicted).all()
    assert one_unit.r_squared is None


def test_folds_within_folds() -> None:
    points = three_networks()
    units = names(points)
    held_out = leave_out(points, RATIONAL, assign_folds(units))
    folds = nested_folds(points, RATIONAL, units, held_out)
    assert [fold.left_out for fold in folds] == ["A", "B", "C"]
    assert [fold.points for fold in folds] == [8, 8, 8]
    for fold in folds:
        out = units == fold.left_out
        error = points.y[out] - held_out.predicted[out]
        assert fold.sse == pytest.approx(float(error @ error))
        # as if the network did not exist
        inner = leave_out(points.take(~out), RATIONAL, assign_folds(units[~out]))
        assert fold.inner_r_squared == pytest.approx(inner.r_squared, abs=1e-12)


def test_two_networks_leave_nothing_to_choose_by() -> None:
    points = three_networks()
    two = points.take(names(points) != "C")
    folds = nested_folds(
        two, RATIONAL, names(two), leave_out(two, RATIONAL, assign_folds(names(two)))
    )
    assert [fold.inner_r_squared for fold in folds] == [None, None]
    assert all(fold.sse is not None for fold in folds)


def test_many_networks_are_left_out_several_at_a_time() -> None:
    units = np.array([f"N{i:02d}" for i in range(2 * MOST_FOLDS)]).repeat(2)
    folds = assign_folds(units)
    assert np.unique(folds).tolist() == list(range(MOST_FOLDS))
    assert (
        assign_folds(units[: 2 * MOST_FOLDS]).tolist() == np.arange(MOST_FOLDS).repeat(2).tolist()
    )
    assert {*units[folds == 3]} == {"N03", "N23"}


def test_folds_of_several_networks_never_see_any_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six networks in three folds: as three networks would be, and a row for each of the six."""
    monkeypatch.setattr(validation, "MOST_FOLDS", 3)
    x = np.tile(np.geomspace(0.01, 10, 8), 6)
    units = np.array(list("ABCDEF")).repeat(8)
    y = x / (1 + x) * np.linspace(0.5, 1, 6).repeat(8)
    points, line = Points(x, y), curve("rational2")
    folds = assign_folds(units)
    held_out = leave_out(points, line, folds)
    by_hand = leave_out(points, line, np.tile(np.arange(3).repeat(8), 2))
    np.testing.assert_array_equal(held_out.predicted, by_hand.predicted)
    others = ~np.isin(units, ["A", "D"])
    fitted = line.estimate(x[others], y[others])
    np.testing.assert_array_equal(held_out.predicted[~others], fitted.predict(x[~others]))

    found = nested_folds(points, line, units, held_out)
    assert [fold.left_out for fold in found] == list("ABCDEF")
    assert [fold.inner_r_squared for fold in found[:3]] == [f.inner_r_squared for f in found[3:]]
    inner = leave_out(points.take(others), line, folds[others])
    assert found[0].inner_r_squared == pytest.approx(inner.r_squared)
    total = sum(fold.sse or 0 for fold in found)
    assert total == pytest.approx(float(np.sum((y - held_out.predicted) ** 2)))
