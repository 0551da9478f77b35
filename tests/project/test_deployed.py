"""The page of deployed formats has the figures that the shipped facts give."""

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from build import EMBEDDED_STUDY, full_study
from deployed import (
    Deployed,
    channel_rows,
    deployed_network_rows,
    deployed_tier_rows,
    format_rows,
    tiers_of,
)
from predictions import WIDE

from ptqdb.database.exchange import import_study

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "explanation" / "deployed.md").read_text("utf-8")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with full_study(tmp_path_factory.mktemp("both"), WIDE) as connection:
        import_study(connection, EMBEDDED_STUDY)
        yield connection


@pytest.fixture(scope="module")
def tiers(both: duckdb.DuckDBPyConnection) -> dict[str, Deployed]:
    return tiers_of(both)


def missing(rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [line for line in lines if line not in PAGE]


def test_the_tables_are_those_of_the_facts(
    both: duckdb.DuckDBPyConnection, tiers: dict[str, Deployed]
) -> None:
    assert missing(deployed_tier_rows(tiers)) == []
    assert missing(deployed_network_rows(tiers)) == []
    assert missing(format_rows(tiers["weights"])) == []
    assert missing(channel_rows(both, f"{WIDE}MobileNetV2")) == []


def test_the_text_is_that_of_the_template() -> None:
    template = (DOCS / "templates" / "deployed.md").read_text("utf-8")
    parts = re.split(r"\{\{.*?\}\}", template)
    assert [part for part in parts if part not in PAGE] == []
