"""The chart of the leaderboard: the best first, every baseline, and whose fits they are."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from picture_study import data, opened, spec_of, write_study

import ptqdb
from ptqdb.charts import leaderboard_chart
from ptqdb.charts.pictures import Request, draw
from ptqdb.database import connect
from ptqdb.errors import DataError


def board(**held_out: float | None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "view": list(held_out),
            "curve": "rational2",
            "held_out_r_squared": list(held_out.values()),
            "held_out_rmse": 0.1,
            "r_squared": 0.9,
            "baseline": [name.startswith("baseline_") for name in held_out],
            "evaluated": [name.endswith("_segmented") for name in held_out],
        },
        schema_overrides={"held_out_r_squared": pl.Float64},
    )


def test_the_leaderboard_has_the_best_first_and_every_baseline() -> None:
    entries = board(a=0.5, b=0.9, c_segmented=0.8, baseline_bits=0.1, none=None, d=-3.0)
    spec = spec_of(leaderboard_chart(entries, shown=2, note="5 fits"))
    _, points, *_ = spec["layer"]
    assert points["encoding"]["y"]["sort"] == ["b", "c_segmented †", "baseline_bits *"]
    assert spec["title"]["subtitle"][1] == "5 fits; 2 more views below"
    assert "† depends on losses" in spec["title"]["subtitle"][0]
    with pytest.raises(DataError, match="expected views with a held-out R²"):
        leaderboard_chart(board(none=None))


def test_a_view_far_below_does_not_squeeze_the_others() -> None:
    spec = spec_of(leaderboard_chart(board(a=0.8, b=0.9, baseline_bits=-30.0), note="3 fits"))
    _, points, below, numbers = spec["layer"]
    low, high = points["encoding"]["x"]["scale"]["domain"]
    assert (low, points["encoding"]["x"]["scale"].get("clamp")) == (0.8, None)
    assert 0.9 < high < 0.92
    x = {row["view"]: row["x"] for row in data(spec, points)}
    assert x == {"a": 0.8, "b": 0.9, "baseline_bits": 0.8}
    assert (below["mark"]["shape"], below["transform"]) == (
        "triangle-left",
        [{"filter": "datum.held_out_r_squared < 0.0"}],
    )
    assert "1 curve below 0" in spec["title"]["subtitle"][1]
    assert numbers["encoding"]["text"]["field"] == "held_out_r_squared"


@pytest.mark.slow
def test_the_leaderboard_is_that_of_compare_where_it_ran(empty_file: Path, tmp_path: Path) -> None:
    path = write_study(Path(shutil.copy(empty_file, tmp_path / "compared.duckdb")))
    ptqdb.open(path).compare("l2_flops", ["hill", "isotonic"])
    with opened(path) as study:
        spec = spec_of(draw(study.connection, "leaderboard"))
        chosen = spec_of(draw(study.connection, "leaderboard", Request(views=("l2_param",))))
    rows = data(spec, spec["layer"][1])
    assert {row["view"] for row in rows} == {"l2_flops", "baseline_bits", "baseline_nsr"}
    assert {row["curve"] for row in rows} == {"hill", "isotonic"}
    with connect(path, read_only=True) as connection:
        stored = connection.execute("select view, curve, held_out_r_squared from fit").fetchall()
    assert {(row["view"], row["curve"], row["held_out_r_squared"]) for row in rows} == set(stored)
    assert spec["title"]["subtitle"][1] == "6 fits by ptqdb compare"
    assert "3 views fitted for this chart" in chosen["title"]["subtitle"][1]
