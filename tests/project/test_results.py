"""docs/explanation/results.md and the facts of the full study that it rests on."""

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import results
from results import FINDINGS, Found, Study

from ptqdb.database import connect, query, view_names
from ptqdb.database.checks import check
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.database.exchange import import_study
from ptqdb.networks.reference import REFERENCE_NETWORKS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FULL_STUDY = ROOT / "data" / "cifar10"
PAGE = ROOT / "docs/explanation/results.md"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The full study, imported."""
    path = tmp_path_factory.mktemp("full") / "cifar10.duckdb"
    with connect(path, read_only=False) as connection:
        import_study(connection, FULL_STUDY)
        yield connection


@pytest.fixture(scope="module")
def embedded() -> Iterator[duckdb.DuckDBPyConnection]:
    """The embedded study's facts."""
    with open_embedded_facts() as connection:
        yield connection


def line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def test_the_facts_that_ship_are_whole_and_small(full: duckdb.DuckDBPyConnection) -> None:
    files = list(FULL_STUDY.glob("*.parquet"))
    assert sum(file.stat().st_size for file in files) < 60e6
    cells = query(
        full,
        "select n.name, count(*) as cells, min(image_count) as images from network as n "
        "join evaluation as e using (network_id) where number_format_id is not null "
        "and scope = 'all' and scheme_id in (select scheme_id from chosen_scheme(null)) "
        "group by n.name",
    )
    assert cells.height > 0
    assert set(cells["cells"]) == {43}
    assert set(cells["images"]) == {10_000}
    assert all(result.has_passed for result in check(full))


def test_the_page_lists_every_reference_network(full: duckdb.DuckDBPyConnection) -> None:
    page = PAGE.read_text("utf-8")
    rows = results.collected_rows(Study(full), FULL_STUDY / "weights")
    assert [row[0] for row in rows] == list(REFERENCE_NETWORKS)
    assert all(line(row) in page for row in rows)
    collected = set(query(full, "select name from network")["name"])
    missing = {row[0] for row in rows if row[-1] == "not yet collected"}
    assert missing == set(REFERENCE_NETWORKS) - collected


def test_the_page_shows_the_figures_that_the_studies_give(
    full: duckdb.DuckDBPyConnection, embedded: duckdb.DuckDBPyConnection
) -> None:
    page = PAGE.read_text("utf-8")
    small, large = Study(embedded), Study(full)
    shown = dict(re.findall(r"^\| `(fakefreeze_flops\w*)` \| (.+) \|$", page, re.MULTILINE))
    for view in ("fakefreeze_flops", "fakefreeze_flops_log"):
        cells = shown[view].split(" | ") if view in shown else []
        assert cells or f"| `{view}` |" in page
        for study in (large, small):
            assert f"{study.r_squared(view):.4f}" in page
    for row in results.network_rows(large):
        assert line(row) in page


def test_the_original_figures_are_of_views_that_exist(
    embedded: duckdb.DuckDBPyConnection,
) -> None:
    printed = results.original_figures()
    assert {view for view, _ in printed} <= set(view_names(embedded)) & set(results.STUDY_VIEWS)
    assert printed["fakefreeze_flops_log", 2] == 0.8864
    assert all(0.7 < value < 0.9 for value in printed.values())
    row = next(r for r in results.study_rows(()) if r[0] == "`fakefreeze_nodiv_flops_log`")
    assert row[1:] == ("0.8924", "0.8922", "0.8957")


def test_findings_of_the_embedded_study_come_out_as_the_page_says(
    embedded: duckdb.DuckDBPyConnection,
) -> None:
    page, study = PAGE.read_text("utf-8"), Study(embedded)
    for text, told in FINDINGS.items():
        found = told(study)
        row = next(row for row in page.splitlines() if row.startswith(f"| {text} |"))
        assert row.endswith(line((found.verdict, found.figures))[1:].rstrip("|") + "|")


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.1, 0.2], "holds"),
        ([-0.1, 0.0], "does not hold"),
        ([0.1, -0.2], "in 1 of 2"),
        ([0.0001, -0.0001], "no difference"),
        ([], "cannot be decided"),
    ],
)
def test_a_verdict_counts_comparisons(differences: list[float], verdict: str) -> None:
    assert Found.of("", differences).verdict == verdict
