"""Merging evaluations of different numbers of images: more win, if the first ones agree."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
import synthetic

from ptqdb.database import connect, query
from ptqdb.database.checks import check
from ptqdb.database.exchange import export_study, import_study
from ptqdb.errors import ContradictionError, DataError, MismatchError

SMALL = synthetic.NETWORKS[2]
TABLES = ("evaluation", "layer_evaluation")
INT_8, POT_4 = 2, 4
# The counts of an evaluation, from its bits; correct_both by hand, since both networks are right.
RECOUNTED = (
    "image_count = length(correct_images), correct_top1 = bit_count(correct_images), "
    "correct_top5 = bit_count(correct_images), same_prediction = bit_count(same_images), "
    "cross_entropy_count = 0, kl_count = 0, correct_both = bit_count(correct_images & same_images)"
)
Open = Callable[[str], duckdb.DuckDBPyConnection]


@pytest.fixture(scope="module")
def whole(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one network on all images, each layer alone, too; tests copy it."""
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("whole") / "whole.duckdb"))
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection, networks=(SMALL,), scopes=("all", "layer"))
    return path


@pytest.fixture
def open_one(whole: Path, tmp_path: Path) -> Iterator[Open]:
    """Copies of the study, to change."""
    opened: list[duckdb.DuckDBPyConnection] = []

    def open_copy(name: str) -> duckdb.DuckDBPyConnection:
        path = Path(shutil.copy(whole, tmp_path / f"{name}.duckdb"))
        opened.append(connect(path, read_only=False))
        return opened[-1]

    yield open_copy
    for connection in opened:
        connection.close()


def shorten(connection: duckdb.DuckDBPyConnection, number_format_id: int, count: int) -> None:
    """Keep the first images of the cells of a format."""
    for table in TABLES:
        for column in ("correct_images", "same_images"):
            connection.execute(
                f"update {table} set {column} = left({column}::varchar, {count})::bit "
                f"where number_format_id = {number_format_id}"
            )
        connection.execute(
            f"update {table} set {RECOUNTED} where number_format_id = {number_format_id}"
        )


def facts(connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
    export_study(connection, folder)
    return folder


def rows(connection: duckdb.DuckDBPyConnection) -> list[pl.DataFrame]:
    return [query(connection, f"from {table} order by all") for table in TABLES]


def same(one: list[pl.DataFrame], other: list[pl.DataFrame]) -> bool:
    return all(map(pl.DataFrame.equals, one, other))


def images(connection: duckdb.DuckDBPyConnection) -> list[list[int]]:
    return [
        query(
            connection,
            f"select image_count from {table} where number_format_id in ({INT_8}, {POT_4}) "
            "order by number_format_id",
        )["image_count"].to_list()
        for table in TABLES
    ]


def test_the_larger_number_of_images_is_kept(open_one: Open, tmp_path: Path) -> None:
    here, there = open_one("here"), open_one("there")
    shorten(here, INT_8, 600)
    shorten(there, INT_8, 800)
    shorten(there, POT_4, 500)
    assert [result.name for result in check(there) if not result.has_passed] == []
    expected = [
        pl.concat(
            [
                frame_there.filter(pl.col("number_format_id") == INT_8),
                frame_here.filter((pl.col("number_format_id") == INT_8).not_()),
                frame_here.filter(pl.col("number_format_id").is_null()),
            ]
        )
        for frame_here, frame_there in zip(rows(here), rows(there), strict=True)
    ]
    added = import_study(here, facts(there, tmp_path / "there"))
    assert [added[table] for table in TABLES] == [1, 1]
    assert images(here) == [[800, 1000], [800, 1000]]
    for found, frame in zip(rows(here), expected, strict=True):
        key = [name for name in ("number_format_id", "scheme_id") if name in frame.columns]
        assert found.sort(key).equals(frame.sort(key))
    assert [result.name for result in check(here) if not result.has_passed] == []
    again = import_study(here, tmp_path / "there")
    assert not any(again.values())


def test_bits_of_a_newer_version_are_added(open_one: Open, tmp_path: Path) -> None:
    here, there = open_one("here"), open_one("there")
    for table in TABLES:
        here.execute(f"update {table} set correct_images = null, same_images = null")
    without = facts(here, tmp_path / "without")
    before = rows(there)
    assert not any(import_study(there, without).values())
    assert same(rows(there), before)
    added = import_study(here, facts(there, tmp_path / "there"))
    assert [added[table] for table in TABLES] == [6, 5]
    assert same(rows(here), before)


@pytest.mark.parametrize(("table", "where"), [
    ("evaluation", "scope = 'all' and number_format_id = 2"),
    ("layer_evaluation", "number_format_id = 2"),
])  # fmt: skip
@pytest.mark.parametrize("longer", ["here", "there"])
def test_other_first_images_are_refused(
    open_one: Open, tmp_path: Path, table: str, where: str, longer: str
) -> None:
    here, there = open_one("here"), open_one("there")
    shorten(there if longer == "here" else here, INT_8, 600)
    # One image is right instead of another.
    places = query(
        there, f"select correct_images::varchar as bits from {table} where {where}"
    ).item()
    right, wrong = places.index("1"), places.index("0")
    there.execute(
        f"update {table} set correct_images = "
        f"set_bit(set_bit(correct_images, {right}, 0), {wrong}, 1) where {where}"
    )
    before = rows(here)
    first = min(right, wrong)
    bit = places[first]
    layer = "layer0, " if table == "layer_evaluation" else ""
    with pytest.raises(MismatchError) as caught:
        import_study(here, facts(there, tmp_path / "there"))
    said = str(caught.value)
    assert f"{table}.parquet: bit {first} of correct_images of Small, {layer}INT_8, " in said
    assert f" is {'01'[bit == '0']}, in the database {bit}; " in said
    assert "\n" not in said
    assert same(rows(here), before)


def test_images_that_cannot_be_compared_are_refused(open_one: Open, tmp_path: Path) -> None:
    here, there = open_one("here"), open_one("there")
    shorten(there, INT_8, 600)
    here.execute("update evaluation set correct_images = null, same_images = null")
    with pytest.raises(MismatchError, match=r"image_count of Small, INT_8, .* is 600, in the"):
        import_study(here, facts(there, tmp_path / "there"))


def test_more_images_than_there_are_contradict(open_one: Open, tmp_path: Path) -> None:
    here, there = open_one("here"), open_one("there")
    for column in ("correct_images", "same_images"):
        there.execute(
            f"update evaluation set {column} = ({column}::varchar || '0')::bit "
            "where scope = 'all' and number_format_id = 2"
        )
    there.execute(f"update evaluation set {RECOUNTED} where scope = 'all' and number_format_id = 2")
    with pytest.raises(ContradictionError, match="evaluation_images"):
        import_study(here, facts(there, tmp_path / "there"))


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (pl.lit("01x").alias("correct_images"), r"Invalid character .* bit conversion"),
        (pl.lit(b"01").alias("correct_images"), "correct_images as VARCHAR, found BLOB"),
    ],
)
def test_what_is_no_bit_is_refused(
    open_one: Open, tmp_path: Path, spoiled: pl.Expr, said: str
) -> None:
    here = open_one("here")
    folder = facts(here, tmp_path / "facts")
    path = folder / "evaluation.parquet"
    pl.read_parquet(path).with_columns(spoiled).write_parquet(path)
    with pytest.raises(DataError, match=said) as caught:
        import_study(here, folder)
    assert "evaluation.parquet: " in str(caught.value)
