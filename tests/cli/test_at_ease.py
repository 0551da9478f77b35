"""What a person meets at the terminal: help, tables, quiet runs, completion, errors."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from running import Run, runner
from synthetic import fill

from ptqdb.cli import app, completion, output
from ptqdb.cli.output import OutputFormat, Printing, print_rows, set_printing
from ptqdb.database import connect
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.errors import UsageError, in_keys, in_options, reword


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def database(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copy(empty_file, tmp_path_factory.mktemp("study") / "study.duckdb"))
    with connect(path, read_only=False) as connection:
        fill(connection)
    return path


# --- help ------------------------------------------------------------------------------------


def callbacks() -> dict[str, Any]:
    """The functions behind the commands, by the commands' names."""
    found = [info.callback for info in app.registered_commands if info.callback is not None]
    return {function.__name__.rstrip("_"): function for function in found}


@pytest.mark.parametrize("command", sorted(callbacks()))
def test_help_shows_every_character_and_no_type_behind_flags(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    shown = run(command, "--help")
    assert shown.code == 0
    assert "<bool>" not in shown.out
    assert "--quiet" in shown.out
    hints = callbacks()[command].__annotations__.values()
    helps = [meta.help for hint in hints for meta in getattr(hint, "__metadata__", ()) if meta.help]
    text = " ".join(shown.out.split())
    for one in helps:
        for word in re.findall(r"\S*\*\S*", one):  # emphasis would eat the asterisks
            assert word.strip("`.,;()") in text, one


# --- tables ----------------------------------------------------------------------------------


def in_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))


ROWS: list[dict[str, Any]] = [
    {"name": "a", "text": "x" * 60, "count": 1234567, "more": "y" * 40, "last": 0.5},
    {"name": "b", "text": "short", "count": 1, "more": "", "last": 2},
]


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_tables_are_as_wide_as_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_terminal(width, monkeypatch)
    print_rows(list(ROWS[0]), ROWS, OutputFormat.TABLE)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("name")
    assert lines[0].endswith("last")
    assert ("--wide" in shown.err) == (width < 130)
    assert all(line.endswith(end) for line, end in zip(lines[2:], ("0.5", "2"), strict=True))
    if width >= 80:
        assert "1234567" in lines[2]  # numbers are never cut


def test_a_wide_table_on_request_and_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows(list(ROWS[0]), ROWS, OutputFormat.TABLE)
    piped = capsys.readouterr().out
    in_terminal(30, monkeypatch)
    with set_printing(Printing(is_wide=True)):
        print_rows(list(ROWS[0]), ROWS, OutputFormat.TABLE)
    assert capsys.readouterr().out == piped
    assert "x" * 60 in piped


@pytest.mark.parametrize("kind", ["table", "csv", "json", "markdown"])
def test_chosen_columns_in_any_format(run: Run, database: Path, kind: str) -> None:
    query = "select name, kind, params from layer order by layer_id limit 1"
    shown = run("sql", query, "--db", database, "--columns", "params,name", "--format", kind)
    assert shown.code == 0
    assert shown.out.index("params") < shown.out.index("name")
    assert "kind" not in shown.out
    wrong = run("sql", query, "--db", database, "--columns", "parms", "--format", kind)
    assert wrong.code == 2
    assert wrong.err == "ptqdb: --columns: expected any of params, name, kind, found 'parms'\n"


def test_parquet_is_not_written_to_a_terminal(database: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ptqdb", "info", "--db", str(database), "--format", "parquet"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert "expected a file or a pipe, found a terminal" in done.stderr


# --- messages --------------------------------------------------------------------------------


def test_quiet_leaves_results_and_errors(run: Run, database: Path) -> None:
    loud = run("info", "--db", database)
    quiet = run("info", "--db", database, "--quiet")
    assert loud.err
    assert (quiet.code, quiet.out, quiet.err) == (0, loud.out, "")
    assert run("fit", "--db", database, "--view", "nothing", "-q").err.startswith(
        "ptqdb: there is no"
    )
    assert not output.is_quiet()


def test_messages_use_the_words_that_were_written() -> None:
    said = {}
    for name, wording in (("options", in_options), ("keys", in_keys)):
        with reword(wording), pytest.raises(UsageError) as raised:
            Preprocessing((0.5,), (0.0,))
        said[name] = str(raised.value)
    with pytest.raises(UsageError) as raised:
        Preprocessing((0.5,), (0.0,))
    said["arguments"] = str(raised.value)
    assert said == {
        "options": "--std: expected numbers above 0, found 0",
        "keys": "std: expected numbers above 0, found 0",
        "arguments": "std: expected numbers above 0, found 0",
    }


def test_a_study_file_is_told_of_its_keys(run: Run, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        '[dataset.a]\npath = "a.parquet"\n[[network]]\nspec = "torchvision:resnet18"\n'
    )
    shown = run("collect", tmp_path / "study.toml", "--db", tmp_path / "study.duckdb")
    assert shown.code == 2
    assert "give weights = DEFAULT" in shown.err
    assert "--" not in shown.err


WRONG = [
    ("collect", "--network", "Nope"),
    ("collect", "--network", "AlexNet", "--mean", "1,2"),
    ("collect", "--number-formats", "INT_99"),
    ("collect", "--device", "gpu"),
    ("collect", "missing.toml"),
    ("predict", "--network", "missing.py:net"),
    ("predict", "--network", "AlexNet", "--curve", "nope"),
    ("predict", "--network", "AlexNet", "--view", "nope"),
    ("recommend", "--network", "timm:resnet18", "--max-loss", "0.1"),
]


def test_wrong_words_are_told_before_pytorch_is_imported(database: Path) -> None:
    program = (
        "import sys\n"
        "from ptqdb.cli import main\n"
        f"for arguments in {WRONG!r}:\n"
        f"    sys.argv = ['ptqdb', *arguments, '--db', {str(database)!r}]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        print(end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["2 False"] * len(WRONG), done.stderr


def test_nothing_fitted_is_a_failure(run: Run, path: Path) -> None:
    with connect(path, read_only=False) as connection:
        fill(connection)
        connection.execute("update network set macs = 1000")
    shown = run("fit", "--db", path)
    assert shown.code == 1
    assert "log10(MMAC) is undefined up to 1 MMAC; choose a view without it" in shown.err
    assert run("fit", "--db", path, "--view", "fakefreeze_flops_depth").code == 0


def test_fit_tells_what_predicts_better(run: Run, database: Path) -> None:
    with duckdb.connect(database) as connection:
        connection.execute(
            "insert into fit by name select 1 as fit_id, 'l2_param' as view, 'hill' as curve, "
            "'network' as leave_out, 'x' as fingerprint, 1 as points, 0.99 as held_out_r_squared, "
            "now()::timestamp as fitted_at, [1.0] as params"
        )
    shown = run("fit", "--db", database)
    assert "l2_param predicts unseen networks better" in shown.err
    assert "`ptqdb fit --view l2_param --curve hill`" in shown.err
    assert "predicts" not in run("fit", "--db", database, "--format", "json").err


def test_options_without_effect_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("x,y\n1,1\n2,2\n3,3\n4,3\n5,4\n")
    given = ("fit", "--from", tmp_path / "points.csv", "--x", "x", "--y", "y")
    assert run(*given).code == 0
    for option in (("--view", "l2_flops"), ("--where", "x > 1"), ("--leave-out", "network")):
        shown = run(*given, *option)
        assert shown.code == 2
        assert option[0] in shown.err


# --- completion ------------------------------------------------------------------------------


def test_completion_offers_names() -> None:
    assert "fakefreeze_flops_log" in completion.views("fakefreeze_fl")
    assert completion.curves("hill,log") == ["hill,logistic"]
    assert completion.number_formats("INT_2,POT_8") == ["INT_2,POT_8"]
    assert completion.reference_networks("Alex") == ["AlexNet", "AlexNet_BN"]


def test_completion_reads_the_networks_of_the_database(database: Path) -> None:
    class Context:
        params = {"db": str(database)}  # noqa: RUF012

    assert completion.collected_networks(Context(), "Plain_") == ["Plain_BN"]
    Context.params["db"] = "/nowhere/study.duckdb"
    assert completion.collected_networks(Context(), "") == []
