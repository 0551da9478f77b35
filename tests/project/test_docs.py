"""The pages name commands, files and views that exist, and show answers that are given."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import predictions
import pytest
from typer.main import get_command

from ptqdb.cli import app
from ptqdb.database import query, read_view, view_names
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.fitting.leaderboard import list_tasks
from ptqdb.fitting.view_fit import fit_view_frame

ROOT = Path(__file__).parents[2]
KINDS = ("tutorial", "how-to", "reference", "explanation")
PAGES = [
    *(ROOT / "README.md", ROOT / "data" / "README.md", ROOT / "docs" / "index.md"),
    *(page for kind in KINDS for page in sorted((ROOT / "docs" / kind).glob("*.md"))),
]

OTHER_PAGES = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def embedded() -> Iterator[duckdb.DuckDBPyConnection]:
    """The embedded study's facts."""
    with open_embedded_facts() as connection:
        yield connection


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_commands_that_are_shown_exist(page: Path) -> None:
    shown = set(
        re.findall(r"(?:`|run |^    )ptqdb ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    )
    assert shown or page.is_relative_to(ROOT / "docs")
    assert shown <= set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=_id)
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


def test_every_network_that_ships_is_described() -> None:
    described = (ROOT / "data" / "README.md").read_text("utf-8")
    for file in (ROOT / "data" / "embedded").glob("*.safetensors"):
        assert f"| {file.stem} |" in described


@pytest.mark.slow
def test_the_page_about_the_database_is_what_the_database_says(
    build: ModuleType, embedded: duckdb.DuckDBPyConnection
) -> None:
    written = (ROOT / "docs/reference/sql.md").read_text("utf-8")
    assert build.sql_page(embedded).splitlines() == written.splitlines()


@pytest.mark.slow
def test_every_query_is_answered_with_rows(
    build: ModuleType, embedded: duckdb.DuckDBPyConnection
) -> None:
    files = build.query_files()
    assert len(files) == 11
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


def test_the_files_that_contributing_names_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", page))
    named -= {"published/points.csv"}  # in the folder of PTQDB_TEST_DATA
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_readme_is_short() -> None:
    lines = PAGES[0].read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100] == []


def test_the_readme_gives_the_commands_that_the_project_runs() -> None:
    readme = PAGES[0].read_text("utf-8")
    assert "pip install uv && uv run ptqdb collect" in readme
    assert "pip install uv && uv run pytest" in readme
    assert "pip install uv && uv run pytest" in (ROOT / ".ci" / "run").read_text("utf-8")


@pytest.mark.slow
def test_the_readme_shows_the_predictions_that_its_python_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within a hundredth: another processor rounds differently."""
    monkeypatch.chdir(ROOT)
    readme = PAGES[0].read_text("utf-8")
    block = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    assert names["frame"].height == 20
    assert names["fits"][0].group == "ALL"
    shown = re.findall(r"^(INT_\d) +\d +\S+ +(\S+) +(\S+) +(\S+) +(yes|no)$", readme, re.MULTILINE)
    assert len(shown) == 6
    predicted = {row.number_format: row for row in names["losses"].rows}
    for name, loss, lower, upper, within_noise in shown:
        row = predicted[name]
        found = (row.predicted_loss, row.lower, row.upper)
        wanted = tuple(map(float, (loss, lower, upper)))
        assert found == pytest.approx(wanted, rel=1e-2, abs=1e-4)
        assert row.within_noise == (within_noise == "yes")


def test_the_tutorial_shows_the_fit_that_the_embedded_facts_give(
    embedded: duckdb.DuckDBPyConnection,
) -> None:
    view = "fakefreeze_flops_log"
    shown = re.findall(
        r"^(\w+) +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$",
        (ROOT / "docs/tutorial/first-study.md").read_text("utf-8"),
        re.MULTILINE,
    )
    fits = fit_view_frame(read_view(embedded, view), view=view, curve="rational2")
    names = ["r_squared", "ceiling_r_squared", "held_out_r_squared", "held_out_rmse", "rmse"]
    assert shown == [
        (fit.group, str(fit.points), *(f"{getattr(fit, name):.4g}" for name in names))
        for fit in fits
    ]


@pytest.mark.slow
def test_the_page_of_predictions_shows_what_validation_gives(
    embedded: duckdb.DuckDBPyConnection,
) -> None:
    page = (ROOT / "docs/explanation/prediction.md").read_text("utf-8")
    for row in (*predictions.interval_rows(embedded), *predictions.validation_rows(embedded)):
        assert "| " + " | ".join(row) + " |" in page


@pytest.mark.slow
def test_leaderboards_show_held_out_figures_that_come_out_again(
    embedded: duckdb.DuckDBPyConnection,
) -> None:
    """Of the page's and the README's rows; that no other is better takes minutes to ask."""
    page = (ROOT / "docs/explanation/prediction.md").read_text("utf-8")
    shown = re.findall(r"^\| `(\w+)` \| `(\w+)` \| .*$", page, re.MULTILINE)
    assert len(shown) == predictions.SHOWN + 4
    readme = (ROOT / "README.md").read_text("utf-8")
    for view, curve in shown:
        entries = [
            task.run()
            for unit in predictions.UNITS
            for task in list_tasks(embedded, [view], [curve], unit)
        ]
        row = predictions.leaderboard_row(entries[0], entries[1])
        assert "| " + " | ".join(row) + " |" in page
    assert f"`{shown[0][0]}`, `{shown[0][1]}`" in readme
    trust = readme[readme.index("## How well it predicts") : readme.index("## Commands")]
    figures = re.findall(r"0\.\d{4}", trust)
    assert len(figures) == 15
    assert [figure for figure in figures if figure not in page] == []
