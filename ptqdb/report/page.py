"""One page of a whole study that needs no other file and no network."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from altair.utils.schemapi import debug_mode

from ptqdb.charts.reading import view_rows
from ptqdb.charts.saving import check_path, script_json, vega_script
from ptqdb.charts.style import DARK, LIGHT
from ptqdb.curves import curve as curve_by_name
from ptqdb.defaults import (
    COMPARED_CURVES,
    FIT_CURVE,
    FIT_VIEW,
    PREDICTION_CURVE,
    PREDICTION_VIEW,
    VIEW_OF_SMALL_NETWORKS,
)
from ptqdb.errors import DataError
from ptqdb.fitting.leaderboard import BASELINE_PREFIX, CompareReporter, matching_views
from ptqdb.fitting.view_fit import finite_rows
from ptqdb.report import content
from ptqdb.report.figures import Section
from ptqdb.report.fits import Fits, Task, fit_views
from ptqdb.report.gallery import DEGREES, VIEWS, gallery
from ptqdb.report.parts import Parts
from ptqdb.support.paths import write_beside
from ptqdb.support.templates import render
from ptqdb.support.text import visible
from ptqdb.version import VERSION

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The gallery has further degrees of rational curves, of all networks together.
CURVES = COMPARED_CURVES
# Views with a picture of every network side by side.
NETWORK_VIEWS = (FIT_VIEW, "fakefreeze_flops", "l2_flops", PREDICTION_VIEW)
FURTHER_VIEWS = ("nsr_layer_rootdepth",)
# The page's style sheet gives these their values, of either theme, also while it is printed.
PAGE_THEME = replace(
    LIGHT,
    background="var(--background)",
    text="var(--text)",
    muted="var(--muted)",
    grid="var(--grid)",
    ink="var(--ink)",
    palette=tuple(f"var(--c{place})" for place in range(len(LIGHT.palette))),
)


def write_report(
    connection: "DuckDBPyConnection",
    path: Path,
    *,
    views: Sequence[str] = (),
    curves: Sequence[str] = CURVES,
    file: str | None = None,
    job_count: int = 1,
    reporter: CompareReporter | None = None,
) -> None:
    """Write the page of a study.

    Parameters
    ----------
    path
        Ends in ``.html``; an existing file is replaced.
    views
        Names, globs or calls of ``variant`` that can be chosen in the page beside those of the
        gallery.
    curves
        Names of the curves that can be chosen.
    file
        The database's name, which the page tells; None: the embedded study.
    job_count
        Processes that fit.

    Raises
    ------
    UsageError
        No such view or curve; the folder is missing, or the file's name ends otherwise.
    DataError
        There is no evaluated network, or the file cannot be written.
    """
    path = Path(path)
    check_path(path, (".html",))
    text = report_page(connection, views, curves, file=file, job_count=job_count, reporter=reporter)
    with write_beside(path) as partial:
        partial.write_text(text, encoding="utf-8")


def report_page(
    connection: "DuckDBPyConnection",
    views: Sequence[str] = (),
    curves: Sequence[str] = CURVES,
    *,
    file: str | None = None,
    job_count: int = 1,
    reporter: CompareReporter | None = None,
) -> str:
    """The page's text; see `write_report`."""
    names = [curve_by_name(name).name for name in dict.fromkeys(curves)] or [FIT_CURVE]
    frames = _frames(connection, views)
    networks = sorted({name for frame in frames.values() for name in frame["network"]})
    tasks = [
        Task(view, frame, *_curves(view, names, in_gallery=view in VIEWS))
        for view, frame in frames.items()
    ]
    fits = dict(fit_views(tasks, job_count=job_count, reporter=reporter))
    # Altair would check each part of hundreds of charts against its schema: most of the time.
    with debug_mode(False):
        sections = _sections(connection, fits, list(frames), names, networks, file)
        return _assembled(sections, file)


def _frames(connection: "DuckDBPyConnection", views: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The views of the page that have rows to draw, the one that it opens with first.

    Raises
    ------
    DataError
        None has any.
    """
    further = [name for one in views for name in matching_views(connection, one)]
    baselines = matching_views(connection, f"{BASELINE_PREFIX}*")
    own = [FIT_VIEW, *VIEWS, PREDICTION_VIEW, *FURTHER_VIEWS, VIEW_OF_SMALL_NETWORKS]
    names = dict.fromkeys([*own, *further, *baselines])
    frames = {view: view_rows(connection, view) for view in names}
    drawn = {view: set(finite_rows(frame)["network"]) for view, frame in frames.items()}
    if not any(drawn.values()):
        raise DataError("expected networks with a divergence and a loss, found none: collect one")
    # Not of some of the networks, where another view has them all.
    first = max((FIT_VIEW, VIEW_OF_SMALL_NETWORKS), key=lambda view: len(drawn[view]))
    order = [first, *(view for view in frames if view != first)]
    return {view: frames[view] for view in order if drawn[view]}


def _curves(
    view: str, names: Sequence[str], *, in_gallery: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The curves that are fitted to each network of a view, too, and those to the pool alone."""
    needed = [*names, FIT_CURVE, *([PREDICTION_CURVE] if view == PREDICTION_VIEW else [])]
    if not in_gallery:
        return tuple(dict.fromkeys(needed)), ()
    whole = tuple(dict.fromkeys([*needed, DEGREES[0]]))
    return whole, tuple(curve for curve in DEGREES if curve not in whole)


def _side_by_side(views: Sequence[str]) -> list[str]:
    """The views whose networks stand side by side: a few, the baselines, and those asked for."""
    known = {*VIEWS, *FURTHER_VIEWS, VIEW_OF_SMALL_NETWORKS} - {*NETWORK_VIEWS}
    return [view for view in views if view not in known or view == views[0]]


def _sections(
    connection: "DuckDBPyConnection",
    fits: Fits,
    views: list[str],
    curves: list[str],
    networks: list[str],
    file: str | None,
) -> list[Section]:
    """What the page is made of, from top to bottom: what to rely on, then the study."""
    make, shown = content.section, networks[: content.MOST_NETWORKS]
    return [
        make(
            "prediction",
            "Predictions, and how far to trust them",
            lambda: content.prediction(fits),
        ),
        make("leaderboard-section", "Leaderboard", lambda: content.leaderboard(connection, fits)),
        make("collected", "What was collected", lambda: content.collected(connection)),
        make(
            "explorer-section",
            "Loss over divergence",
            lambda: content.explorer(fits, views, curves),
        ),
        make(
            "each-network",
            "Each network",
            lambda: content.networks(fits, _side_by_side(views), curves[0]),
        ),
        make("powers", "Powers of two", lambda: content.powers_of_two(connection)),
        make("layers-section", "Layers", lambda: content.layers(connection)),
        make(
            "gallery",
            "The gallery of the study",
            lambda: gallery(connection, lambda view, curve: fits.get((view, curve)), shown),
            is_folded=True,
        ),
        make("sql", "Ask more in SQL", lambda: content.questions(file)),
    ]


def _assembled(sections: Sequence[Section], file: str | None) -> str:
    parts = Parts()
    figures = {figure.name: figure.data(parts) for one in sections for figure in one.figures}
    return render(
        "ptqdb.report",
        "page.html",
        title=visible(f"ptqdb: {file or 'the embedded study'}"),
        about="What trained networks lose in quantized number formats. "
        f"Written by ptqdb {VERSION} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        style=_file("page.css"),
        sections=sections,
        data=script_json(
            {
                "parts": parts.parts,
                "figures": figures,
                "config": PAGE_THEME.config(),
                "cells": {
                    name: {
                        "heatmap": list(theme.sequential),
                        "diverging": list(theme.diverging),
                    }
                    for name, theme in (("light", LIGHT), ("dark", DARK))
                },
            }
        ),
        vega=vega_script(),
        script=_file("page.js"),
    )


def _file(name: str) -> str:
    return files("ptqdb.report").joinpath(name).read_text(encoding="utf-8")
