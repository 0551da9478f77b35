"""fit, compare, validate, predict and recommend as a user runs them, over the embedded study."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from running import Result, Run, runner

import ptqdb
from ptqdb.curves import CURVES
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.errors import DataError


@pytest.fixture(scope="module")
def own_cache(user_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the tests here, which keep fits in it; the embedded facts are there."""
    with open_embedded_facts():
        return Path(shutil.copytree(user_cache, tmp_path_factory.mktemp("own") / "cache"))


@pytest.fixture
def run(
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command in this process, in an empty folder, without a database of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache))
    return runner(monkeypatch, capsys)


def table(result: Result) -> list[dict[str, str]]:
    assert result.code == 0, result.err
    return list(csv.DictReader(io.StringIO(result.out)))


# --- fit -------------------------------------------------------------------------------------


def test_fit_reports_what_nobody_saw(run: Run) -> None:
    result = run("fit", "--format", "json")
    pool, *networks = json.loads(result.out)
    assert (pool["group"], pool["points"], len(networks)) == ("ALL", 215, 5)
    for row in (pool, *networks):
        assert row["held_out_r_squared"] < row["ceiling_r_squared"]
        assert row["r_squared"] < row["ceiling_r_squared"]
        assert row["held_out_rmse"] > row["held_out_median_error"] > 0
    # Near-duplicate formats count as one in the held-out figures only: no comparison with R².
    assert pool["held_out_r_squared"] == pytest.approx(pool["r_squared"], abs=0.02)


def test_twins_are_left_out_together(run: Run) -> None:
    by_network, by_architecture = (
        json.loads(run("fit", "--leave-out", unit, "--format", "json").out)
        for unit in ("network", "architecture")
    )
    assert [row["r_squared"] for row in by_network] == [row["r_squared"] for row in by_architecture]
    differ = {
        one["group"]
        for one, other in zip(by_network, by_architecture, strict=True)
        if one["held_out_r_squared"] != other["held_out_r_squared"]
    }
    assert differ == {"ALL", "AlexNet", "AlexNet_BN"}


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("family", ["FLOAT", "INT", "POT"]),
        ("architecture", ["AlexNet", "Inception_BN", "VGG_16", "VGG_19"]),
        ("bits", ["4", "5", "6"]),
    ],
)
def test_groups_and_conditions(run: Run, by: str, groups: list[str]) -> None:
    rows = table(
        run("fit", "--by", by, "--where", "bits between 4 and 6", "--curve", "hill",
            "--format", "csv")
    )  # fmt: skip
    assert [row["group"] for row in rows] == ["ALL", *groups]
    assert rows[0]["points"] == str(5 * (3 + 3 + 9))


@pytest.mark.slow
def test_every_curve(run: Run) -> None:
    rows = table(run("fit", "--curve", "all", "--where", "network like 'VGG%'", "--format", "csv"))
    assert {row["curve"] for row in rows} == set(CURVES)
    pool = {row["curve"]: row for row in rows if row["group"] == "ALL"}
    assert all(float(row["r_squared"]) > 0.1 for row in pool.values())
    ceiling = float(pool["isotonic"]["r_squared"])
    rising = [row for row in pool.values() if row["monotone"] == "true"]
    assert all(float(row["r_squared"]) <= ceiling + 1e-9 for row in rising)


@pytest.mark.slow
def test_a_saved_fit_predicts_the_same(run: Run, tmp_path: Path) -> None:
    x, vgg = [0.0, 0.001, 0.1, 0.5, 9.0], "network like 'VGG%'"
    with ptqdb.open() as study:
        for name in CURVES:
            path = tmp_path / f"{name}.json"
            result = run("fit", "--curve", name, "--where", vgg, "--save-fit", path)
            assert result.code == 0, result.err
            loaded = ptqdb.load_fits(path)
            fits = study.fit(where=vgg, curve=name)
            assert set(loaded) == {fit.group for fit in fits if fit.fitted}
            for fit in fits:
                if fit.fitted is not None:
                    expected = fit.fitted.predict(x, chance_loss=0.85)
                    np.testing.assert_array_equal(
                        loaded[fit.group].predict(x, chance_loss=0.85), expected
                    )


def test_a_file_that_is_no_fit(run: Run, tmp_path: Path) -> None:
    for content in ("{}", "[]", "nothing", '{"ptqdb_fit": 1, "fits": [{"prediction": {}}]}'):
        (tmp_path / "fit.json").write_text(content)
        with pytest.raises(DataError, match="written by `ptqdb fit --save-fit`"):
            ptqdb.load_fits(tmp_path / "fit.json")
    with pytest.raises(DataError, match="No such file"):
        ptqdb.load_fits(tmp_path / "none.json")
    result = run("fit", "--save-fit", tmp_path / "missing" / "fit.json")
    assert result.code == 1
    assert "choose another place" in result.err


def test_summary_is_that_of_statsmodels(run: Run) -> None:
    result = run("fit", "--show-summary", "--curve", "linear", "--where", "network like 'VGG%'")
    assert result.code == 0, result.err
    assert "fakefreeze_flops_log: ALL" in result.out
    assert result.out.count("R-squared:") == 2 * 3
    assert "network bootstrap" in result.out


@pytest.mark.parametrize("suffix", ["csv", "parquet", "tsv", "json", "ndjson"])
def test_a_table_made_elsewhere(run: Run, tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(
        {
            "net": np.repeat(["A", "B", "C"], 20),
            "js": np.tile(np.geomspace(0.001, 1, 20), 3),
            "loss": np.concatenate([x / (x + c) for c in (0.1, 0.2, 0.3)
                                    for x in [np.geomspace(0.001, 1, 20)]]),
        }
    )  # fmt: skip
    path = tmp_path / f"points.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    elif suffix == "json":
        frame.write_json(path)
    elif suffix == "ndjson":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="," if suffix == "csv" else "\t")
    rows = table(run("fit", "--from", path, "--x", "js", "--y", "loss", "--by", "net",
                     "--format", "csv"))  # fmt: skip
    assert [row["group"] for row in rows] == ["ALL", "A", "B", "C"]
    assert [row["points"] for row in rows] == ["60", "20", "20", "20"]
    assert float(rows[1]["r_squared"]) == pytest.approx(1, abs=1e-6)
    assert float(rows[0]["held_out_r_squared"]) < float(rows[0]["r_squared"])
    (pool,) = table(run("fit", "--from", path, "--x", "js", "--y", "loss", "--format", "csv"))
    assert pool["r_squared"] == rows[0]["r_squared"]
    assert pool["held_out_r_squared"] == ""


def test_a_table_has_no_counts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    pl.DataFrame({"x": range(1, 9), "y": range(8)}).write_csv(path)
    result = run("fit", "--from", path, "--x", "x", "--y", "y", "--curve", "logistic")
    assert result.code == 1
    assert "expected chance_loss, the loss of a network that guesses" in result.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,y\n1,2\n2,3\n", "at least 5 points, found 2"),
        ("x,y\n1,2\n1,3\n1,3\n1,4\n1,5\n1,6\n", "expected x to vary, found x = 1"),
        ("x,y\n1,2\n2,2\n3,2\n4,2\n5,2\n", "expected y to vary, found y = 2"),
        ("x,y\n1,1\n2,nan\n3,3\n4,4\n5,6\n6,6\n", "1 row without a finite divergence and loss"),
    ],
)
def test_points_that_carry_no_curve_are_said(
    run: Run, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "points.csv").write_text(content)
    result = run("fit", "--from", tmp_path / "points.csv", "--x", "x", "--y", "y")
    assert result.code == (0 if "row" in message else 1)
    assert message in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--view", "fakefreeze_flop"), 2, "no view 'fakefreeze_flop': choose fakefreeze_flops"),
        (("--curve", "rational5"), 2, "choose one of rational"),
        (("--by", "familly"), 2, "found 'familly'; choose one of family"),
        (("--where", "bitts < 3"), 1, "bitts"),
        (("--x", "js"), 2, "--x can only be used with --from FILE"),
        (("--from", "points.csv"), 1, "expected a table at points.csv"),
        (("--from", "points.json"), 1, "expected a table at points.json"),
        (("--from", "points.txt"), 2, "expected a file ending in .csv"),
        (("--from", "bad.csv", "--x", "a", "--y", "b"), 1, "expected a table in bad.csv"),
        (("--from", "good.csv"), 2, "expected --x and --y, two columns of good.csv; it has x, y"),
        (("--from", "good.csv", "--x", "z", "--y", "y"), 2, "found 'z'; choose one of"),
        (("--from", "good.csv", "--x", "t", "--y", "y"), 2, "expected numbers in t"),
        (("--from", "good.csv", "--where", "x > 0"), 2, "--where cannot be used with --from FILE"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "good.csv").write_text("x,y,t\n1,2,a\n")
    (tmp_path / "bad.csv").write_bytes(b"")
    result = run("fit", *arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "Traceback" not in result.err


# --- compare ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_compare_ranks_and_keeps(run: Run) -> None:
    first = run("compare", "fakefreeze_flops_log_s*", "--curves", "hill,linear", "--jobs", "1",
                "--format", "csv", "--top", "0")  # fmt: skip
    rows = table(first)
    assert {row["kind"] for row in rows} == {"baseline", "divergence", "evaluated"}
    held_out = [float(row["held_out_r_squared"]) for row in rows]
    assert held_out == sorted(held_out, reverse=True)
    assert [row["place"] for row in rows] == [str(i) for i in range(1, len(rows) + 1)]
    assert f"{len(rows)} curves to fit, 0 already present" in first.err
    assert "chosen again without each network: AlexNet: " in first.err
    again = run("compare", "fakefreeze_flops_log_s*", "--curves", "hill,linear", "--format", "csv",
                "--top", "0")  # fmt: skip
    assert f"0 curves to fit, {len(rows)} already present" in again.err
    assert again.out == first.out
    shown = run("sql", "select count(*) as n from fit", "--format", "json")
    assert json.loads(shown.out) == [{"n": len(rows)}]


def test_compare_prints_the_best_and_the_baselines(run: Run) -> None:
    result = run("compare", "l2_flops", "--curves", "hill", "--top", "1", "--jobs", "1")
    assert result.code == 0
    assert "baseline_bits" in result.out
    assert "baseline_nsr" in result.out
    assert "the best held-out R² of many is optimistic" not in result.err


# --- validate --------------------------------------------------------------------------------


def test_validate_prints_networks_and_bands(run: Run) -> None:
    rows = table(run("validate", "--curve", "hill", "--format", "csv"))
    assert [row["kind"] for row in rows] == ["all", *["network"] * 5, *["band"] * 3]
    assert [row["group"] for row in rows[-3:]] == ["near lossless", "middle", "collapsed"]
    assert sum(int(row["points"]) for row in rows[-3:]) == int(rows[0]["points"]) == 215
    assert 0.7 < float(rows[0]["coverage"]) <= 1
    total = sum(int(row["points"]) * float(row["interval_score"]) for row in rows[1:6])
    assert total / 215 == pytest.approx(float(rows[0]["interval_score"]))
    wide = table(run("validate", "--curve", "hill", "--interval", "0.95", "--format", "csv"))
    assert float(wide[0]["mean_width"]) > float(rows[0]["mean_width"])


def test_validate_leaves_out_architectures(run: Run) -> None:
    rows = table(
        run("validate", "--curve", "hill", "--leave-out", "architecture", "--format", "csv")
    )
    assert [row["group"] for row in rows if row["kind"] == "architecture"] == [
        "AlexNet",
        "Inception_BN",
        "VGG_16",
        "VGG_19",
    ]
    few = run("validate", "--where", "network like 'VGG%'")
    assert few.code == 1
    assert "expected three or more networks" in few.err


def test_what_a_network_prints_is_no_data(run: Run, tmp_path: Path) -> None:
    """A network that prints while it is built and while it runs leaves JSON on stdout."""
    (tmp_path / "loud.py").write_text(
        "from torch import nn\n\n\n"
        "class Loud(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print('forward')\n"
        "        return super().forward(x)\n\n\n"
        "def net():\n"
        "    print('built')\n"
        "    return Loud(nn.Flatten(), nn.Linear(192, 4))\n"
    )
    spec = ("--network", "loud.py:net", "--weights", "random", "--image-size", "8")
    fed = ("--mean", "0,0,0", "--std", "1,1,1")
    result = run("predict", *spec, *fed, "--number-formats", "mxfp4,INT_8", "--format", "json")
    rows = json.loads(result.out)
    assert {row["number_format"] for row in rows} == {"INT_8", "mxfp4"}
    assert "built" in result.err
    assert "forward" in result.err
