"""A thousand lines that nobody should type: each ends in 0, 1, 2 or 130, without a traceback."""

import io
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from running import runner
from synthetic import fill

from ptqdb.cli import app
from ptqdb.database import connect

LINES, SEED = 1000, 0
VALUES = (
    *(
        "",
        " ",
        "-1",
        "0",
        "1",
        "1e999",
        "nan",
        "-inf",
        "999999999999999999999",
        "0x10",
        "1,2",
        ",,",
    ),
    *(
        "'",
        "''",
        '"',
        "`id`",
        "$(id)",
        "; drop table evaluation; --",
        "select 1",
        "1 = 1; select 2",
    ),
    *(
        "*",
        "**",
        "?",
        "[",
        "]",
        "[bold]x",
        "{0}",
        "%s%n",
        "\\",
        "\x1b[31mred",
        "a\nb",
        "\t",
    ),
    *(
        "é",
        "数",
        "💥",
        "\u202eabc",
        "x" * 5000,
        "-",
        "--",
        "=",
        "a=b",
        "@file",
        ":",
        ":x",
        "x:",
        "/",
    ),
    *(".", "..", "/dev/null", "/proc/self/mem", "/etc/passwd", "missing.toml", "missing.py:net"),
    *(
        "torchvision:",
        "timm:",
        "timm:../x",
        "torchvision:resnet18",
        "os:getcwd",
        "sys:path",
        "json:",
    ),
    *("hf://x", "hf://datasets/a", "file:///etc/passwd", "http://127.0.0.1:9/x", "cuda:99", "meta"),
    *("variant(", "variant()", "variant(share := 'x')", "variant(share := (select 1))", "pragma x"),
    *(
        "INT_8",
        "INT_*",
        "FLOAT_9_E9",
        "AlexNet",
        "Plain",
        "ALL",
        "network",
        "divergence",
        "l2_flops",
    ),
    *("hill", "all", "weight,bias", "table", "json", "csv", "markdown", "0.9", "0.5,0.5,0.5"),
)
# What would work for minutes is given a network that there is not.
NEVER_AS_IS = {
    "collect": ("--network", "no such network"),
    "predict": ("--network", "no such network"),
    "recommend": ("--network", "no such network"),
    "train": ("no such network",),
    "report": ("--view", "no such view"),
    "compare": ("no such view",),
}


def options_of(command: str) -> tuple[list[str], int]:
    """The options of a command, and how many arguments it takes."""
    import typer

    group = typer.main.get_command(app)
    found = group.commands[command]  # type: ignore[attr-defined]
    options = [name for param in found.params for name in param.opts if name.startswith("-")]
    arguments = sum(param.param_type_name == "argument" for param in found.params)
    return [name for name in options if name not in ("--help", "-h")], arguments


def line(chance: random.Random, database: Path, folder: Path) -> list[str]:
    """A command, some options, some values, in some order."""
    command = chance.choice([info.name or info.callback.__name__.rstrip("_") for info in COMMANDS])
    options, argument_count = options_of(command)
    words: list[str] = list(NEVER_AS_IS.get(command, ()))
    for _ in range(chance.randint(0, argument_count + 1)):
        words.append(chance.choice(VALUES))
    for name in chance.choices(options, k=chance.randint(0, 3)):
        words.append(name)
        if chance.random() < 0.9:
            words.append(chance.choice(VALUES))
    if "--db" in options and "--db" not in words and chance.random() < 0.8:
        words += ["--db", str(database)]
    if "--output" in options and chance.random() < 0.5:
        words += ["--output", str(folder / "out.html")]
    if command == "export":  # whoever runs the tests may be allowed to write into the root
        words = ["/proc" if word == "/" else word for word in words]
    return [command, *words]


COMMANDS: Sequence[Any] = app.registered_commands


@pytest.mark.slow
def test_hostile_lines_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "study.duckdb"
    with connect(database, read_only=False) as connection:
        fill(connection)
    before = facts(database)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    run, chance = runner(monkeypatch, capsys), random.Random(SEED)
    codes = {}
    for number in range(LINES):
        words = line(chance, database, folder)
        monkeypatch.setattr(sys, "stdin", io.StringIO("select 1"))
        result = run(*words)
        assert result.code in (0, 1, 2, 130), words
        assert "Traceback" not in result.err, words
        assert result.code == 0 or result.err.strip(), words  # a failure says why
        codes[number] = result.code
    assert facts(database) == before
    assert {0, 1, 2} <= set(codes.values())


def facts(database: Path) -> list[tuple[int, ...]]:
    """How many rows the tables of facts have."""
    with connect(database, read_only=True) as connection:
        tables = ("network", "layer", "tensor", "evaluation", "code_histogram")
        return [
            connection.execute(f"select count(*) from {name}").fetchone() or () for name in tables
        ]
