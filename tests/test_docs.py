"""The README names commands, files and views that exist."""

import re
from pathlib import Path

import duckdb
import pytest
from typer.main import get_command

from ptqdb.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", ROOT / "docs" / "networks.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_commands_that_are_shown_exist(page: Path) -> None:
    shown = set(
        re.findall(r"(?:`|run |^    )ptqdb ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    )
    assert shown
    assert shown <= set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert all((page.parent / link).exists() for link in links), links


def test_queries_that_are_shown_run(database: duckdb.DuckDBPyConnection) -> None:
    shown = re.findall(r'(?:sql|duckdb) "([^"]+)"', PAGES[0].read_text("utf-8"))
    assert len(shown) >= 2
    for query in shown:
        assert database.execute(query).description


def test_the_embedded_study_is_no_larger_than_promised() -> None:
    files = list((ROOT / "data" / "embedded").glob("*"))
    assert sum(file.stat().st_size for file in files if file.is_file()) < 25e6


def test_every_network_that_travels_is_described() -> None:
    described = (ROOT / "data" / "README.md").read_text("utf-8")
    for file in (ROOT / "data" / "embedded").glob("*.safetensors"):
        assert f"| {file.stem} |" in described
