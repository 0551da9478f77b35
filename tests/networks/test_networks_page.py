"""The page on networks of one's own: its files are written and run, its commands collect."""

import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from ptqdb.cli import main

PAGE = (Path(__file__).parents[2] / "docs/how-to/networks.md").read_text("utf-8")
FEW = ("--images", "8", "--calibration", "4", "--number-formats", "INT_8")


def section(title: str) -> tuple[dict[str, str], list[str]]:
    """The files of a section by name, and its commands but for those that download."""
    _, _, text = PAGE.partition(f"## {title}\n")
    text = text.partition("\n## ")[0]
    assert text
    files = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL))
    commands = re.findall(r"```sh\nptqdb (.*?)\n```", text, re.DOTALL)
    assert files
    assert commands
    return files, commands


@pytest.fixture
def folder(tmp_path: Path, empty_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a database without facts."""
    shutil.copy(empty_file, tmp_path / "own.duckdb")
    monkeypatch.setenv("PTQDB_DB", "own.duckdb")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("nets", None)


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")  # of the libraries that the page uses
@pytest.mark.parametrize(
    ("title", "extra", "names", "said"),
    [
        ("A file of your own", None, ["again", "small"], "small: keys: prefix 'module.' stripped"),
        ("A reference network", None, ["mine"], ""),
        (
            "torchvision",
            "torchvision",
            ["mobilenet_v3_small"],
            "mobilenet_v3_small: built with 10 classes",
        ),
        ("timm", "timm", ["mobilenetv3_small_050"], "mobilenetv3_small_050: built with 10 classes"),
    ],
)
@pytest.mark.slow
def test_every_way_in_works_as_shown(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    title: str,
    extra: str | None,
    names: list[str],
    said: str,
) -> None:
    if extra:
        pytest.importorskip(extra, reason=f"{extra} is an extra")
    monkeypatch.syspath_prepend(folder)
    files, commands = section(title)
    for name, text in files.items():
        (folder / name).write_text(text)
        runpy.run_path(name)
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["ptqdb", *command.split(), *FEW])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
    assert said in capsys.readouterr().err
    with duckdb.connect("own.duckdb", read_only=True) as connection:
        found = connection.execute("select name from network order by name").fetchall()
        architectures = connection.execute("select distinct architecture from network").fetchall()
    assert [name for (name,) in found] == names
    assert len(architectures) == 1


def test_commands_that_download_are_well_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqdb.networks.sources import network_source

    shown = re.findall(r"```sh no-run\n(.*?)```", PAGE, re.DOTALL)
    specs = re.findall(r"--network (\S+) --weights (\S+)", "".join(shown))
    assert len(specs) == 3
    for spec, weights in specs:
        pytest.importorskip(spec.partition(":")[0], reason="an extra")
        assert network_source(spec, weights=weights).preprocessing is not None


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--mean", "1,2"], 2, "--mean: expected exactly one --network, found none"),
        (["--network", "AlexNet", "--mean", "a"], 2, "--mean: expected comma-separated numbers"),
        (["--network", "AlexNet", "--name", ""], 2, "--name: expected a name"),
        (["--network", "AlexNet", "--checkpoint", "no.pt"], 1, "found no file no.pt"),
        (["--network", "no.py:net"], 2, "no file no.py"),
        (["--network", "os:getcwd", "--seed", "1"], 2, "give --mean and --std"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ptqdb", "collect", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    error = capsys.readouterr().err
    assert named in error
    assert error.startswith("ptqdb: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.duckdb"))


def test_keys_that_do_not_fit_collect_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    torch.save({"a": torch.ones(1)}, folder / "a.pt")
    options = ["--checkpoint", "a.pt", "--mean", "0,0,0", "--std", "1,1,1", *FEW]
    monkeypatch.setattr(sys, "argv", ["ptqdb", "collect", "--network", "AlexNet", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert "AlexNet failed: the keys of a.pt do not fit AlexNet: missing" in error
    with duckdb.connect("own.duckdb", read_only=True) as connection:
        assert connection.execute("select count(*) from network").fetchall() == [(0,)]
        outcome = connection.execute("select outcome, arguments from collection_run").fetchone()
    assert outcome is not None
    assert outcome[0] == "failed"
    assert '"checkpoint": "a.pt"' in outcome[1]
