"""A curve is searched once for the same points, and nobody can change what was found."""

from collections.abc import Iterator

import numpy as np
import pytest

from ptqdb.curves import curve
from ptqdb.curves.function import _estimated
from ptqdb.curves.hill import HillFunction
from ptqdb.curves.points import Floats, Points
from ptqdb.fitting.cross_validation import assign_folds, leave_out
from ptqdb.fitting.validation import predict_each_left_out

HILL = curve("hill")


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many points each search saw."""
    seen: list[int] = []
    search = HillFunction.estimate

    def counted(function: HillFunction, points: Points) -> Floats:
        seen.append(len(points))
        return search(function, points)

    monkeypatch.setattr(HillFunction, "estimate", counted)
    _estimated.cache_clear()
    yield seen
    _estimated.cache_clear()


def sweep(network_count: int) -> Points:
    x = np.geomspace(0.01, 10, 12 * network_count)
    noise = np.random.default_rng(3).normal(0, 0.02, len(x))
    network = np.tile([f"net{i}" for i in range(network_count)], 12)
    return Points(x, 0.9 * x / (0.3 + x) + noise, network=network)


def test_the_same_points_are_searched_once(searches: list[int]) -> None:
    points = sweep(1)
    first = HILL.estimate(points.x, points.y)
    assert HILL.estimate(points.x.copy(), points.y.tolist()) is first
    assert searches == [12]
    order = np.arange(12)[::-1]
    for x, y, columns in (
        (np.nextafter(points.x, 99), points.y, {}),
        (points.y, points.x, {}),
        (points.x[order], points.y[order], {}),
        (points.x, points.y, {"network": points.network}),
        (points.x, points.y, {"images": np.full(12, 100)}),
        (points.x, points.y, {"float_accuracy": np.full(12, 100)}),
    ):
        assert HILL.estimate(x, y, **columns) is not first
    assert searches == [12] * 7


def test_who_leaves_out_pairs_searches_each_once(searches: list[int]) -> None:
    points = sweep(5)
    assert points.network is not None
    predict_each_left_out(points, HILL, points.network)
    assert sorted(searches) == [36] * 10 + [48] * 5
    leave_out(points, HILL, assign_folds(points.network))
    assert len(searches) == 15


def test_what_is_remembered_cannot_be_changed() -> None:
    points = sweep(1)
    x, y = points.x.copy(), points.y.copy()
    fit = HILL.estimate(x, y)
    params = fit.params.tolist()
    x[0], y[0] = 99.0, -1.0
    assert (fit.x.tolist(), fit.y.tolist()) == (points.x.tolist(), points.y.tolist())
    for values in (fit.params, fit.x, fit.y):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0
    assert HILL.estimate(points.x, points.y).params.tolist() == params
