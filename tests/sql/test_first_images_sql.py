"""Evaluations of the first images in SQL, beside the same in Python and NumPy."""

import duckdb
import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic import IMAGE_COUNT, write_evaluation

from ptqdb.measurement.first_images import accuracy_loss_se, image_order, image_stride

COUNTS = (1, 2, 3, 5, 8, 10, 97, 512, 2000, 9973, 10_000, 30_030, 50_000, 1_000_003, 1_281_167)
INT_2, INT_8 = 1, 2


@pytest.mark.parametrize("count", COUNTS)
def test_the_order_is_that_of_python(formulas: duckdb.DuckDBPyConnection, count: int) -> None:
    stride = formulas.execute("select image_stride(?)", [count]).fetchone()
    assert stride == (image_stride(count),)
    places = sorted({0, 1, 2, 7, count // 2, count - 1} & set(range(count)))
    found = formulas.execute(
        "select image_at(place, ?) from unnest(?) as each(place) order by place", [count, places]
    ).fetchall()
    assert [image for (image,) in found] == image_order(count)[places].tolist()


@given(st.integers(0, 300), st.integers(0, 300), st.data())
def test_the_standard_error_is_that_of_python(
    formulas: duckdb.DuckDBPyConnection, correct: int, float_correct: int, data: st.DataObject
) -> None:
    both = data.draw(st.integers(0, min(correct, float_correct)))
    counts = (correct, float_correct, both)
    row = formulas.execute("select accuracy_loss_se(?, ?, ?)", counts).fetchone()
    expected = accuracy_loss_se(*counts) if float_correct else None
    assert row == (expected if expected is None else pytest.approx(expected, rel=1e-12),)


texts = st.text("01", min_size=1, max_size=70)


@given(texts, texts)
def test_bits_agree_as_far_as_both_go(
    formulas: duckdb.DuckDBPyConnection, one: str, other: str
) -> None:
    count = min(len(one), len(other))
    longer = one + other
    row = formulas.execute(
        "select agree_on_first(?::bit, ?::bit), agree_on_first(?::bit, ?::bit), "
        "agree_on_first(?::bit, ?::bit), agree_on_first(null, ?::bit), "
        "bit_count(first_bits(?::bit, ?))",
        [one, other, longer, one, one, longer, one, longer, len(one)],
    ).fetchone()
    assert row == (one[:count] == other[:count], True, True, None, one.count("1"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((4, 4, 3, "0101"), 3),  # all images: the stored count
        ((4, 4, 3, None), 3),
        ((2, 4, 3, "0101"), 1),
        ((3, 4, 3, "1101"), 2),
        ((2, 4, 3, None), None),
        ((5, 4, 3, "0101"), None),
        ((2, None, None, None), None),
    ],
)
def test_correct_images_of_the_float_network(
    formulas: duckdb.DuckDBPyConnection, given: tuple[object, ...], expected: int | None
) -> None:
    row = formulas.execute("select float_correct_count(?, ?, ?, ?::bit)", given).fetchone()
    assert row == (expected,)


@pytest.fixture
def shortened(database: duckdb.DuckDBPyConnection) -> dict[tuple[int, str], tuple[int, int, int]]:
    """The first network's cells in two formats, with images of their own number.

    Returns by format and scope: images, correct, correct in floating point on the same images.
    """
    synthetic.fill(database, networks=synthetic.NETWORKS[:1], scopes=("all", "weight", "bias"))
    random = np.random.default_rng(3)
    float_right = random.random(IMAGE_COUNT) < 0.8
    database.execute("delete from evaluation")
    write_evaluation(database, 1, None, "none", float_right, float_right)
    found = {}
    for scope in ("all", "weight", "bias"):
        for number_format_id in (INT_2, INT_8):
            count = int(random.integers(500, IMAGE_COUNT))
            first = float_right[:count]
            right = first & (random.random(count) < 0.7)
            write_evaluation(database, 1, number_format_id, scope, right, first)
            found[number_format_id, scope] = (count, int(right.sum()), int(first.sum()))
    return found


def test_pairs_are_over_the_images_of_each(
    database: duckdb.DuckDBPyConnection,
    shortened: dict[tuple[int, str], tuple[int, int, int]],
) -> None:
    for scope in ("all", "weight"):
        rows = database.execute(
            "select number_format_id, image_count, correct_top1, float_correct_top1 "
            f"from paired_evaluation('{scope}', null)"
        ).fetchall()
        assert {(row[0], scope): row[1:] for row in rows} == {
            key: counts for key, counts in shortened.items() if key[1] == scope
        }
    losses = database.execute(
        "select bits, accuracy_loss from format_frontier order by bits"
    ).fetchall()
    expected = [1 - shortened[known, "all"][1] / shortened[known, "all"][2] for known in (1, 2)]
    assert losses == [
        (synthetic.FORMATS[place].bits, pytest.approx(loss)) for place, loss in enumerate(expected)
    ]


def test_sensitivities_are_of_the_shares_that_are_lost(
    database: duckdb.DuckDBPyConnection,
    shortened: dict[tuple[int, str], tuple[int, int, int]],
) -> None:
    rows = database.execute(
        "select distinct number_format_id, factor from tensor_sensitivity() "
        "join tensor using (tensor_id) where role = 'weight' and factor != 1"
    ).fetchall()
    assert len(rows) == 2
    for known, factor in rows:
        lost = [
            (was - now) / count
            for count, now, was in (shortened[known, scope] for scope in ("weight", "bias"))
        ]
        assert factor == pytest.approx(lost[0] / sum(lost))


def test_a_float_network_without_bits_pairs_with_all_images_alone(
    database: duckdb.DuckDBPyConnection,
    shortened: dict[tuple[int, str], tuple[int, int, int]],
) -> None:
    right = np.ones(IMAGE_COUNT, dtype=np.bool_)
    write_evaluation(database, 1, 3, "all", right, right)
    database.execute("update evaluation set correct_images = null where scope = 'none'")
    rows = database.execute("select images from fakefreeze_flops").fetchall()
    assert rows == [(IMAGE_COUNT,)]
    assert database.execute("from tensor_sensitivity()").fetchall() == []
