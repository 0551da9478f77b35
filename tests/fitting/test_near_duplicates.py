"""Number formats that are nearly the same count as one in held-out figures."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest

from ptqdb.curves import curve
from ptqdb.curves.points import Points
from ptqdb.fitting.cross_validation import HeldOut, assign_folds, leave_out, nested_folds
from ptqdb.fitting.intervals import LossPredictor
from ptqdb.fitting.near_duplicates import distinct_format, format_weights, weighted_median
from ptqdb.fitting.validation import validate_view_frame
from ptqdb.fitting.view_fit import view_points
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat


def rows(network: str, formats: tuple[NumberFormat, ...] = STUDY_GRID) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "network": network,
            "number_format": [known.name for known in formats],
            "family": [known.family for known in formats],
            "bits": [known.bits for known in formats],
            "ebits": [known.ebits if known.family == "FLOAT" else None for known in formats],
        }
    )


def test_formats_of_the_same_codes_are_one() -> None:
    """Up to 8 bits by their codes, in units of the largest; POT_5 to POT_8 by those above 2^-14."""
    found = dict(zip(rows("N")["number_format"], distinct_format(rows("N")), strict=True))
    assert len(set(found.values())) == 33
    small = [known for known in STUDY_GRID if known.bits <= 8]
    for one, other in combinations(small, 2):
        both_pot = one.family == other.family == "POT"
        least = 2**-14 if both_pot else 0
        first, second = (
            known.magnitudes() / known.max_code  # the grids are symmetric
            for known in (one, other)
        )
        first, second = first[first >= least], second[second >= least]
        is_same = len(first) == len(second) and np.allclose(first, second, rtol=1e-12)
        assert (found[one.name] == found[other.name]) == is_same, (one.name, other.name)


def test_weights_add_up_to_the_distinct_formats_of_each_network() -> None:
    kept = tuple(known for known in STUDY_GRID if known.name in ("POT_5", "POT_7", "INT_3"))
    frame = pl.concat([rows("A"), rows("B", kept)])
    weights = format_weights(frame)
    assert weights is not None
    assert weights[: len(STUDY_GRID)].sum() == pytest.approx(33)
    by_name = dict(zip(frame["number_format"], weights, strict=True))  # those of B
    assert (by_name["POT_5"], by_name["POT_7"], by_name["INT_3"]) == (0.5, 0.5, 1)
    assert format_weights(frame.drop("family")) is None


def test_a_weight_of_two_is_a_point_twice() -> None:
    rng = np.random.default_rng(1)
    y, predicted = rng.random(9), rng.random(9)
    weights = np.array([2.0, 1, 1, 1, 1, 1, 1, 1, 1])
    twice = np.append(np.arange(9), 0)
    weighted = HeldOut(y, predicted, weights)
    repeated = HeldOut(y[twice], predicted[twice], np.ones(10))
    assert weighted.r_squared == pytest.approx(repeated.r_squared, rel=1e-12)
    assert weighted.rmse == pytest.approx(repeated.rmse, rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_median_of_equal_weights_is_numpys(count: int) -> None:
    values = np.random.default_rng(count).random(count)
    assert weighted_median(values, np.full(count, 0.3)) == pytest.approx(np.median(values))


def test_a_weighted_median_by_hand() -> None:
    # The middles of 1, 2 and 9 lie at 1/6, 1/2 and 5/6 of the weights; then at 1/2, 3/4, 7/8.
    assert weighted_median(np.array([9.0, 1, 2]), np.ones(3)) == 2
    assert weighted_median(np.array([9.0, 1, 2]), np.array([0.25, 1, 0.25])) == pytest.approx(
        np.interp(0.5, [0.5 / 1.5, 1.125 / 1.5], [1, 2])
    )


def study(formats: tuple[NumberFormat, ...]) -> pl.DataFrame:
    """Four networks whose loss is a sigmoid, with a larger error in POT."""
    frames = []
    for place, sensitivity in enumerate((0.6, 1.0, 1.4, 2.0)):
        frame = rows(f"N{place}", formats)
        x = 30 * 2.0 ** (-1.5 * frame["bits"].to_numpy())
        x = np.where(frame["ebits"].is_null(), x, x / 1.3)
        scaled = x * np.where(frame["family"] == "POT", sensitivity**2, sensitivity)
        loss = scaled / (1 + scaled)
        frames.append(
            frame.with_columns(
                divergence=x, accuracy_loss=loss, saturated=loss > 0.9, architecture=pl.lit("N")
            )
        )
    return pl.concat(frames)


def test_validation_counts_near_duplicates_as_one() -> None:
    whole = validate_view_frame(study(STUDY_GRID), curve="hill")
    assert [(row.group, row.points) for row in whole[:2]] == [("ALL", 172), ("N0", 43)]
    assert [row.weight for row in whole[:2]] == pytest.approx([4 * 33, 33])
    frame = study(STUDY_GRID)
    points = view_points(frame)
    units = frame["network"].to_numpy().astype(str)
    plain = Points(points.x, points.y, network=units)
    held_out = leave_out(points, curve("hill"), assign_folds(units))
    np.testing.assert_array_equal(
        held_out.predicted, leave_out(plain, curve("hill"), assign_folds(units)).predicted
    )  # fits ignore the weights
    error = points.y - held_out.predicted
    assert whole[0].rmse == pytest.approx(np.sqrt(np.average(error**2, weights=points.weights)))
    assert whole[0].bias == pytest.approx(-np.average(error, weights=points.weights))
    assert whole[0].rmse != pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-3)


def test_folds_and_intervals_are_weighted() -> None:
    frame = study(STUDY_GRID)
    points, hill = view_points(frame), curve("hill")
    units = frame["network"].to_numpy().astype(str)
    held_out = leave_out(points, hill, assign_folds(units))
    folds = nested_folds(points, hill, units, held_out)
    weights = points.weights / points.weights.mean()
    squares = weights * (points.y - held_out.predicted) ** 2
    for fold in folds:
        out = units == fold.left_out
        assert fold.sse == pytest.approx(squares[out].sum(), rel=1e-12)
        rest = points.take(~out)
        inner = leave_out(rest, hill, assign_folds(units[~out]))
        assert fold.inner_r_squared == pytest.approx(inner.r_squared, rel=1e-9)
    predictor = LossPredictor.of(points, hill, units)
    of_one = predictor._network_weights[units == "N1"]
    assert of_one.sum() == pytest.approx(1)
    assert of_one == pytest.approx(points.weights[units == "N1"] / 33)
