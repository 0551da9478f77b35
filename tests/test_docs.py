"""The pages name commands, files and views that exist, and show answers that are given."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import duckdb
import pytest
from typer.main import get_command

from ptqdb.cli import app
from ptqdb.database import query, read_view, view_names
from ptqdb.embedded_facts import open_embedded_facts
from ptqdb.fitting import fit_view_frame

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The embedded study's facts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with open_embedded_facts() as connection:
            yield connection


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The script that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_commands_that_are_shown_exist(page: Path) -> None:
    shown = set(
        re.findall(r"(?:`|run |^    )ptqdb ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    )
    assert shown or page.parent.name == "docs"
    assert shown <= set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert all((page.parent / link).exists() for link in links), links


def test_queries_that_are_shown_run(database: duckdb.DuckDBPyConnection) -> None:
    shown = re.findall(r'(?:sql|duckdb) "([^"]+)"', PAGES[0].read_text("utf-8"))
    assert len(shown) >= 2
    for sql in shown:
        assert database.execute(sql).description


def test_the_embedded_study_is_no_larger_than_promised() -> None:
    files = list((ROOT / "data" / "embedded").glob("*"))
    assert sum(file.stat().st_size for file in files if file.is_file()) < 25e6


def test_every_network_that_travels_is_described() -> None:
    described = (ROOT / "data" / "README.md").read_text("utf-8")
    for file in (ROOT / "data" / "embedded").glob("*.safetensors"):
        assert f"| {file.stem} |" in described


def test_the_page_about_the_database_is_what_the_database_says(
    build: ModuleType, embedded: duckdb.DuckDBPyConnection
) -> None:
    written = (ROOT / "docs" / "sql.md").read_text("utf-8")
    assert build.sql_page(embedded).splitlines() == written.splitlines()


def test_ten_queries_are_answered_with_rows(
    build: ModuleType, embedded: duckdb.DuckDBPyConnection
) -> None:
    files = build.query_files()
    assert len(files) == 10
    for file in files:
        assert len(query(embedded, file.read_text("utf-8"))) > 0


def test_views_that_need_all_scopes_have_rows_in_the_embedded_study(
    embedded: duckdb.DuckDBPyConnection,
) -> None:
    views = {name for name in view_names(embedded) if name.endswith("_sensitivity")}
    assert len(views) == 6
    for name in views:
        assert len(read_view(embedded, name)) == 215
    assert not len(read_view(embedded, "missing_cell"))


def test_the_readme_shows_the_fit_that_the_embedded_facts_give(
    embedded: duckdb.DuckDBPyConnection,
) -> None:
    view = "fakefreeze_flops_log"
    shown = re.findall(
        rf"^{view} +rational2 +network +(\S+) +(\d+) +(\S+) +(\S+)",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    fits = fit_view_frame(read_view(embedded, view), view=view, curve="rational2")
    assert shown == [
        (fit.group, str(fit.points), f"{fit.r_squared:.4g}", f"{fit.rmse:.4g}") for fit in fits
    ]
