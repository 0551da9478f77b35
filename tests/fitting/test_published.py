"""The published sweeps, where they are at hand: what is reached, and the page that says so."""

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from predictions import (
    PUBLISHED_COLUMNS,
    PublishedFit,
    published_fits,
    published_intervals,
    published_points,
)

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def folder() -> Path:
    """The folder of the points; skips where there is none."""
    base = os.environ.get("PTQDB_TEST_DATA")
    if base is None or not (Path(base) / "published").is_dir():
        pytest.skip("PTQDB_TEST_DATA names no folder with published/points.csv")
    return Path(base) / "published"


@pytest.fixture(scope="module")
def fits(folder: Path) -> list[PublishedFit]:
    return published_fits(folder)


def test_rational_curves_reach_the_printed_figures(fits: list[PublishedFit]) -> None:
    comparable = [fit for fit in fits if fit.is_comparable]
    assert len(comparable) == 34
    assert [fit for fit in comparable if not fit.reaches] == []
    assert all(fit.monotone for fit in fits)
    assert all(fit.r_squared <= fit.ceiling + 1e-9 for fit in fits)


def test_what_cannot_be_reached(fits: list[PublishedFit]) -> None:
    """A printed curve that falls in places; of one the figure is above any rising curve's."""
    adam = {fit.network: fit for fit in fits if fit.study == "cifar10_cosine_adam"}
    assert not adam["AlexNet"].reaches
    assert not adam["VGG_16"].reaches
    assert adam["VGG_16"].ceiling < adam["VGG_16"].printed


@pytest.mark.slow
def test_intervals_of_networks_left_out(folder: Path) -> None:
    """The curve and the errors behind the intervals never saw the network."""
    depth, bits = (published_intervals(folder, name) for name in ("js_flops_depth", "code_width"))
    assert len(depth) == 5
    for sweep in depth:
        assert 0.85 <= sweep.coverage <= 0.95, sweep
    assert np.mean([one.score for one in depth]) < np.mean([one.score for one in bits])


@pytest.mark.slow
def test_the_page_says_what_is_found(folder: Path, build: ModuleType) -> None:
    assert (DOCS / "explanation/published.md").read_text("utf-8") == build.published_page(folder)
    assert set(PUBLISHED_COLUMNS) <= set(published_points(folder).columns)
