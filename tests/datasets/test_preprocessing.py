"""Preprocessing refuses what no network can be fed with, and survives JSON."""

import json

import pytest

from ptqdb.datasets.preprocessing import Geometry, Preprocessing, channel_values
from ptqdb.errors import UsageError


@pytest.mark.parametrize(
    ("mean", "std", "named"),
    [
        ((), (), r"mean: expected one number per channel, found none"),
        ((0.5, 0.5, 0.5), (0.2,), r"std: expected as many numbers as mean has, 3, found 1"),
        ((0.5, float("nan")), (0.2, 0.2), r"mean: expected finite numbers, found 0.5,nan"),
        ((0.5, 0.5), (0.2, 0.0), r"std: expected numbers above 0, found 0.2,0"),
        ((0.5,), (-1.0,), r"std: expected numbers above 0, found -1"),
        ((0.5,), (float("inf"),), r"std: expected numbers above 0, found inf"),
    ],
)
def test_a_wrong_normalization_is_refused_by_name(
    mean: tuple[float, ...], std: tuple[float, ...], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        Preprocessing(mean, std)


@pytest.mark.parametrize(
    ("geometry", "named"),
    [
        ({"resize": 0}, "resize: expected at least 1 pixel, found 0"),
        ({"crop": -3}, "crop: expected at least 1 pixel, found -3"),
        ({"interpolation": "linear"}, "bilinear, bicubic, nearest, lanczos, found 'linear'"),
    ],
)
def test_a_wrong_geometry_is_refused_by_name(geometry: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Geometry(**geometry)  # type: ignore[arg-type]


def test_it_survives_json() -> None:
    given = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), Geometry(256, 224, "bicubic"))
    assert json.loads(given.to_json()) == given.to_dict()


def test_numbers_per_channel_are_read_or_refused() -> None:
    assert channel_values("mean", "0.5, 0.25,1e-1") == (0.5, 0.25, 0.1)
    with pytest.raises(UsageError, match=r"std: expected comma-separated numbers.*'0.2;0.2'"):
        channel_values("std", "0.2;0.2")
