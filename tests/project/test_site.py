"""The documentation as a site: it builds without a warning, and its pages hold what they should."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli_reference import cli_page
from typer.main import get_command

from ptqdb.cli import app

ROOT = Path(__file__).parents[2]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_of_every_command(name: str) -> None:
    text = section(cli_page(), f"ptqdb {name}")
    command = COMMANDS[name]
    for param in command.get_params(typer.Context(command, info_name=name)):
        for option in param.opts:
            assert re.search(rf"^\| .*`{option}\b", text, re.MULTILINE), option
    assert "\n```sh\nptqdb " in text


def test_the_reference_shows_defaults_and_choices() -> None:
    text = section(cli_page(), "ptqdb fit")
    assert "| `--curve` | `rational2` |" in text
    assert "One of `table`, `json`, `csv`, `markdown`, `parquet`." in text
    assert "| `folder` | required |" in section(cli_page(), "ptqdb export")


def test_hooks_of_pre_commit_are_the_quick_checks() -> None:
    """Each runs a command of .ci/check from the project's own environment."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    entries = re.findall(r"entry: (.+)", hooks)
    checks = (ROOT / ".ci" / "check").read_text("utf-8").splitlines()
    assert entries == [line for line in checks if line.startswith("uv run ")]
    assert re.findall(r"repo: (.+)", hooks) == ["local"]
    assert re.findall(r"language: (.+)", hooks) == ["system"] * len(entries)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_has_every_page(tmp_path: Path) -> None:
    for module in ("material", "nbconvert"):
        pytest.importorskip(module, reason="the site needs `uv run --group docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    pages = [Path(page) for page in re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)]
    assert len(pages) > 20
    for page in pages:
        place = tmp_path / ("" if page.stem == "index" else page.with_suffix(""))
        html = (place / "index.html").read_text("utf-8")
        assert "<article" in html
        assert not re.search(r'href="[^"]*\.(md|ipynb)[#"]', html), page
    assert (tmp_path / "search" / "search_index.json").stat().st_size > 100_000
    notebook = (tmp_path / "tutorial" / "notebook" / "index.html").read_text("utf-8")
    assert notebook.count("<table") > 5
    assert re.search(r'<img [^>]*src="\.\./output_\d+_\d+\.png"', notebook)
    assert "data_dictionary" in (tmp_path / "reference" / "sql" / "index.html").read_text("utf-8")
