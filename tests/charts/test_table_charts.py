"""Pictures of tables made elsewhere: no study is read, and no unit is invented."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from running import Run, runner

from ptqdb.charts.axes import Columns
from ptqdb.charts.pictures import Request, draw_table
from ptqdb.errors import UsageError
from ptqdb.fitting.view_fit import fit_view_frame

TABLE = pl.DataFrame(
    {
        "js": np.tile(np.geomspace(1e-4, 1, 12), 2),
        "points lost": np.concatenate(
            [100 * x / (x + c) for c in (0.1, 0.4) for x in [np.geomspace(1e-4, 1, 12)]]
        ),
        "network": np.repeat(["A", "B"], 12),
        "number_format": [f"{family}_{bits}" for family in ("INT", "POT") for bits in range(2, 14)],
    }
)
COLUMNS = Columns("js", "points lost")


def spec(kind: str = "fit", table: pl.DataFrame = TABLE, **options: Any) -> dict[str, Any]:
    request = Request(curves=("hill",), **options)
    drawn: dict[str, Any] = draw_table(
        table, COLUMNS, kind, name="points.csv", request=request
    ).to_dict()
    return drawn


def test_points_and_the_curve_in_the_tables_own_unit() -> None:
    chart = spec()
    _, points, line = chart["layer"]
    encoding = points["encoding"]
    assert encoding["x"]["title"] == ["js"]
    assert (encoding["y"]["title"], encoding["y"]["axis"]["format"]) == ("points lost", "~g")
    assert [tip["title"] for tip in encoding["tooltip"]] == [
        "Network",
        "Format",
        "js",
        "points lost",
    ]
    assert encoding["color"]["scale"]["domain"] == ["A", "B"]
    assert encoding["shape"]["scale"]["domain"] == ["INT", "POT"]
    rows = chart["datasets"][points["data"]["name"]]
    np.testing.assert_allclose([row["accuracy_loss"] for row in rows], TABLE["points lost"])
    pool = fit_view_frame(TABLE, view="", curve="hill", x="js", y="points lost")[0]
    assert pool.fitted is not None
    drawn = chart["datasets"][line["data"]["name"]]
    expected = pool.fitted.predict([row["x"] for row in drawn])
    np.testing.assert_allclose([row["fitted"] for row in drawn], expected)
    said = " ".join(chart["title"]["subtitle"])
    assert f"RMSE {pool.rmse:.4g}, 24 points" in said
    assert "%" not in said
    assert chart["title"]["text"] == "points.csv: all networks"


def test_a_panel_for_each_group_and_one_group_alone() -> None:
    assert [panel["title"]["text"] for panel in spec("networks")["concat"]] == ["A", "B"]
    one = spec(network="B")
    rows = one["datasets"][one["layer"][1]["data"]["name"]]
    assert {row["network"] for row in rows} == {"B"}
    assert one["title"]["text"] == "points.csv: B"
    with pytest.raises(UsageError, match="found 'C'; choose one of A, B"):
        spec(network="C")
    with pytest.raises(UsageError, match="found residuals; choose one of fit, networks"):
        spec("residuals")


def test_a_table_of_x_and_y_alone_needs_no_legend() -> None:
    chart = spec(table=TABLE.select("js", "points lost"))
    encoding = chart["layer"][1]["encoding"]
    assert encoding["color"]["legend"] is encoding["shape"]["legend"] is None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def test_no_database_is_read(run: Run, tmp_path: Path) -> None:
    TABLE.rename({"network": "net"}).write_json(tmp_path / "points.json")
    from_table = ("chart", "networks", "--from", "points.json", "--x", "js")
    given = (*from_table, "--y", "points lost", "--by", "net", "-o", "points.vl.json")
    done = run(*given)
    assert (done.code, done.out, done.err) == (0, "", "wrote points.vl.json\n")
    assert len(json.loads((tmp_path / "points.vl.json").read_text())["concat"]) == 2
    for options, said in (
        ((), "expected --x and --y, two columns of points.json; it has js, points lost, net"),
        (("--y", "lost"), "expected a column of points.json, found 'lost'; choose one of"),
        (("--y", "js", "--view", "l2_flops"), "--view"),
    ):
        done = run(*from_table, *options)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert len(done.err.strip().splitlines()) == 1
    done = run("chart", "--x", "js")
    assert (done.code, done.err) == (2, "ptqdb: --x can only be used with --from FILE\n")
