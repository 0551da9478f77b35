"""The commands as a user runs them: exit code, stdout and stderr of each."""

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from running import Run, runner

from ptqdb.cli import main
from ptqdb.database import embedded_facts
from ptqdb.fitting.view_fit import FIGURES
from ptqdb.version import VERSION

FORMATS = "INT_2,INT_4,INT_8,POT_3,POT_4,POT_6,FLOAT_4_E2,FLOAT_5_E3,FLOAT_8_E4"
COLLECT = (sys.executable, "-m", "ptqdb", "collect")
FEW = ("--images", "50", "--calibration", "16")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two embedded networks in nine formats on fifty images."""
    database = tmp_path_factory.mktemp("study") / "study.duckdb"
    networks = ("--network", "AlexNet_BN", "--network", "AlexNet")
    done = subprocess.run(
        [*COLLECT, *networks, "--number-formats", FORMATS, *FEW, "--db", database],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "18 cells to fill, 0 already present" in done.stderr
    assert "18/18 AlexNet_BN FLOAT_8_E4" in done.stderr or "18/18 AlexNet FLOAT_8_E4" in done.stderr
    assert done.stdout == ""
    return database


def test_every_command_has_help_with_an_example(run: Run) -> None:
    overview = run("--help")
    assert overview.code == 0
    for command in (
        "collect",
        "fit",
        "chart",
        "report",
        "views",
        "info",
        "sql",
        "check",
        "export",
        "import",
        "train",
    ):
        assert command in overview.out
        shown = run(command, "--help")
        assert shown.code == 0
        assert f"ptqdb {command}" in shown.out.replace("\n", " ")


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").out.strip() == VERSION


@pytest.mark.slow
def test_readers_import_no_torch(study: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom ptqdb.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "heavy = {'torch', 'pandas', 'statsmodels'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    for arguments in (["--help"], ["fit"], ["views"], ["info"], ["sql", "select 1"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PTQDB_DB": str(study)},
        )
        assert done.returncode == 0, done.stderr


def test_fit_prints_the_pool_and_each_network(run: Run, study: Path) -> None:
    table = run("fit", "--view", "fakefreeze_flops_log", "--db", study)
    assert table.code == 0
    assert [line.split()[1] for line in table.out.splitlines()[2:]] == [
        "ALL",
        "AlexNet",
        "AlexNet_BN",
    ]
    fits = json.loads(run("fit", "--db", study, "--format", "json").out)
    assert [fit["group"] for fit in fits] == ["ALL", "AlexNet", "AlexNet_BN"]
    assert [fit["points"] for fit in fits] == [18, 9, 9]
    assert all(list(fit) == [*FIGURES, "params"] and fit["by"] == "network" for fit in fits)
    assert all(fit["monotone"] and 0 <= fit["r_squared"] <= 1 for fit in fits)
    assert all(fit["ssr"] == pytest.approx(fit["rmse"] ** 2 * fit["points"]) for fit in fits)


@pytest.mark.parametrize("suffix", ["html", "png", "svg", "json"])
def test_chart_saves_every_kind_of_file(run: Run, study: Path, tmp_path: Path, suffix: str) -> None:
    done = run("chart", "fit", "--db", study, "-o", f"fit.{suffix}", "--network", "AlexNet")
    assert (done.code, done.out) == (0, "")
    assert (tmp_path / f"fit.{suffix}").stat().st_size > 2000


def test_chart_without_arguments_draws_the_fit(run: Run, study: Path, tmp_path: Path) -> None:
    assert run("chart", "--db", study).code == 0
    assert "<html" in (tmp_path / "fit.html").read_text(encoding="utf-8")


def test_views_are_listed_filtered_and_shown(run: Run, study: Path) -> None:
    listed = json.loads(run("views", "fakefreeze_*", "--db", study, "--format", "json").out)
    assert {row["view"] for row in listed} >= {
        "fakefreeze_param",
        "fakefreeze_flops",
        "fakefreeze_flops_log",
        "fakefreeze_flops_cuberoot",
    }
    assert all(row["description"] for row in listed)
    assert "variant(" in run("views", "fakefreeze_flops", "--sql", "--db", study).out


def test_info_counts_present_and_missing_cells(run: Run, study: Path) -> None:
    rows = json.loads(run("info", "--db", study, "--format", "json").out)
    assert [(row["network"], row["all_cells"], row["missing_cells"]) for row in rows] == [
        ("AlexNet_BN", 9, 34),
        ("AlexNet", 9, 34),
    ]


def test_sql_prints_in_every_format(run: Run, study: Path, tmp_path: Path) -> None:
    query = "select 1 as a, 'x|y' as b, 0.5 as c, null as d"
    assert run("sql", query, "--db", study).out.splitlines()[0].split() == ["a", "b", "c", "d"]
    assert json.loads(run("sql", query, "--db", study, "--format", "json").out) == [
        {"a": 1, "b": "x|y", "c": 0.5, "d": None}
    ]
    assert run("sql", query, "--db", study, "--format", "csv").out == "a,b,c,d\n1,x|y,0.5,\n"
    assert "x\\|y" in run("sql", query, "--db", study, "--format", "markdown").out
    (tmp_path / "query.sql").write_text(query)
    assert json.loads(run("sql", "query.sql", "--db", study, "--format", "json").out)[0]["a"] == 1
    done = subprocess.run(
        [sys.executable, "-m", "ptqdb", "sql", "-", "--format", "parquet", "--db", study],
        input=query.encode(),
        capture_output=True,
    )
    assert pl.read_parquet(io.BytesIO(done.stdout)).select("a", "b").rows() == [(1, "x|y")]


def test_sql_is_read_only(run: Run, study: Path) -> None:
    before = study.read_bytes()
    done = run("sql", "delete from evaluation", "--db", study)
    assert done.code == 1
    assert "read-only" in done.err
    assert study.read_bytes() == before


@pytest.mark.slow
def test_a_study_goes_out_and_comes_in(run: Run, study: Path, tmp_path: Path) -> None:
    done = run("export", "facts", "--db", study)
    assert (done.code, done.out, done.err) == (0, "", "wrote 23 tables to facts\n")
    done = run("import", "facts", "--db", "copy.duckdb")
    assert (done.code, done.out) == (0, "")
    assert "added 2 networks, 20 evaluations" in done.err
    assert "added 0 networks, 0 evaluations" in run("import", "facts", "--db", "copy.duckdb").err
    for command in (["fit"], ["info"]):
        assert run(*command, "--db", "copy.duckdb").out == run(*command, "--db", study).out
    # What a collection writes passes every check.
    done = run("check", "--db", "copy.duckdb")
    assert (done.code, done.out) == (0, ""), done.out
    assert "nothing is wrong" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["export", "copy.duckdb"], 2, "is a file"),
        (["import", "nowhere"], 1, "nowhere is not a folder"),
        (["import", "."], 1, "such as dataset.parquet"),
        (["check", "nothing"], 2, "there is no check"),
        (["fit", "--view", "fakefreez_flops"], 2, "choose fakefreeze_flops"),
        (["fit", "--curve", "rational9"], 2, "rational2"),
        (["fit", "--view", "variant(share := 'params')"], 2, "param, flops"),
        (["chart", "--network", "alexnet"], 2, "choose one of AlexNet"),
        (["chart", "-o", "fit.gif"], 2, ".html"),
        (["chart", "-o", "missing/fit.html"], 2, "missing"),
        (["chart", "pie"], 2, "fit"),
        (["views", "nothing*"], 2, "there is no view"),
        (["sql", "select network from nowhere"], 1, "nowhere"),
        (["sql", "selec 1"], 1, "selec 1"),
        (["collect", "--network", "vgg16"], 2, "VGG_16"),
        (["collect", "--number-formats", "INT_99"], 2, "INT_99"),
        (["collect", "--scopes", "weights"], 2, "weight"),
        (["collect", "--device", "gpu"], 2, "cpu"),
        (["collect", "--images", "5000"], 1, "2000 images"),
        (["collect", "--images", "0"], 2, "--images"),
        (["collect", "--images", "40", "--network", "AlexNet"], 2, "--images"),
        (["train", "alexnet", "--dataset", "."], 2, "AlexNet"),
        (["train", "AlexNet", "--dataset", "missing"], 1, "missing"),
        (["fit", "--format", "xml"], 2, "table"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_is_one_clear_line(
    run: Run, study: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    copy = tmp_path / "copy.duckdb"
    shutil.copy(study, copy)
    if arguments[0] not in ("train", "nonsense"):
        arguments = [*arguments, "--db", str(copy)]
    done = run(*arguments)
    assert done.code == code, done
    assert said in done.err
    assert "Traceback" not in done.err
    if "Usage:" not in done.err and arguments[0] != "sql":
        assert len(done.err.strip().splitlines()) == 1


def test_a_missing_or_wrong_file_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With the facts that travel with ptqdb, the readers would fall back to them.
    monkeypatch.setattr(embedded_facts, "data_folder", lambda: tmp_path)
    for command in (["fit"], ["info"], ["views"], ["chart"], ["sql", "select 1"]):
        done = run(*command)
        assert done.code == 1
        assert "ptqdb.duckdb does not exist" in done.err
    (tmp_path / "text.duckdb").write_text("just some text, long enough to hold a header")
    done = run("info", "--db", "text.duckdb")
    assert (done.code, "not a DuckDB file" in done.err) == (1, True)


def test_a_file_in_use_is_said_with_its_holder(study: Path, run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    shutil.copy(study, copy)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import duckdb; c = duckdb.connect({str(copy)!r}); print(1, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    done = run("info", "--db", copy)
    holder.communicate(b"\n")
    assert done.code == 1
    assert f"PID {holder.pid}" in done.err


@pytest.mark.slow
def test_ctrl_c_ends_a_collection_with_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COLLECT, "--network", "AlexNet", *FEW, "--db", tmp_path / "stopped.duckdb"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "calibrating" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    stopped_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - stopped_at < 3
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.slow
def test_on_a_terminal_there_is_a_bar_with_rate_and_remaining_time(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COLLECT, *FEW, "--network=AlexNet", "--number-formats=INT_[2-5]", "--db=bar.duckdb"],
        cwd=tmp_path,
        stderr=slave,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    text = shown.decode()
    assert "━" in text
    assert "4/4" in text
    assert "cells/s" in text
    assert " left" in text


def test_small_matrices_are_left_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "OPENBLAS_NUM_THREADS"
    monkeypatch.setattr("sys.argv", ["ptqdb", "--version"])
    monkeypatch.setenv(name, "3")
    with pytest.raises(SystemExit):
        main()
    assert os.environ[name] == "3"
    monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main()
    assert os.environ[name] == "1"
    ran = subprocess.run(
        [sys.executable, "-c", "import ptqdb.cli, sys; sys.exit('numpy' in sys.modules)"],
        check=False,
    )
    assert ran.returncode == 0
