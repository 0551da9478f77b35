"""One page of a whole study that needs no other file and no network."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from altair.utils.schemapi import debug_mode

from ptqdb.charts.saving import check_path
from ptqdb.charts.style import LIGHT
from ptqdb.curves import curve as curve_by_name
from ptqdb.defaults import FIT_CURVE, FIT_VIEW, PREDICTION_VIEW
from ptqdb.leaderboard import BASELINE_PREFIX, CompareReporter, matching_views
from ptqdb.paths import written_beside
from ptqdb.pictures import view_rows
from ptqdb.report import content
from ptqdb.report.figures import Section
from ptqdb.report.fits import Fits, fit_views
from ptqdb.report.gallery import DEGREES, VIEWS, gallery
from ptqdb.report.parts import Parts, script_json
from ptqdb.text import visible
from ptqdb.version import VERSION

if TYPE_CHECKING:
    from ptqdb.study import Study

CURVES = (*DEGREES, "hill", "logistic", "isotonic")
# Views with a picture of every network side by side.
NETWORK_VIEWS = (FIT_VIEW, "fakefreeze_flops", "l2_flops", PREDICTION_VIEW)
FURTHER_VIEWS = (PREDICTION_VIEW, "nsr_layer_rootdepth", "fakefreeze_flops_depth")
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
    study: "Study",
    path: Path,
    *,
    views: Sequence[str] = (),
    curves: Sequence[str] = CURVES,
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
    text = report_page(study, views, curves, job_count=job_count, reporter=reporter)
    with written_beside(path) as partial:
        partial.write_text(text, encoding="utf-8")


def report_page(
    study: "Study",
    views: Sequence[str] = (),
    curves: Sequence[str] = CURVES,
    *,
    job_count: int = 1,
    reporter: CompareReporter | None = None,
) -> str:
    """The page's text; see `write_report`."""
    names = [curve_by_name(name).name for name in dict.fromkeys(curves)] or [FIT_CURVE]
    frames = {view: view_rows(study, view) for view in _views(study, views)}
    networks = sorted(set(frames[FIT_VIEW]["network"]))
    fits = dict(
        fit_views(
            frames,
            list(dict.fromkeys([*names, *DEGREES])),
            job_count=job_count,
            reporter=reporter,
        )
    )
    # Altair would check each part of hundreds of charts against its schema: most of the time.
    with debug_mode(False):
        return _assembled(study, _sections(study, fits, list(frames), names, networks))


def _views(study: "Study", views: Sequence[str]) -> list[str]:
    further = [name for one in views for name in matching_views(study.connection, one)]
    baselines = matching_views(study.connection, f"{BASELINE_PREFIX}*")
    return list(dict.fromkeys([FIT_VIEW, *VIEWS, *FURTHER_VIEWS, *further, *baselines]))


def _side_by_side(views: Sequence[str]) -> list[str]:
    """The views whose networks stand side by side: a few, the baselines, and those asked for."""
    known = {*VIEWS, *FURTHER_VIEWS} - {*NETWORK_VIEWS}
    return [view for view in views if view not in known]


def _sections(
    study: "Study", fits: Fits, views: list[str], curves: list[str], networks: list[str]
) -> list[Section]:
    """What the page is made of, from top to bottom."""
    make = content.section
    return [
        make("collected", "What was collected", lambda: content.collected(study)),
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
        make("formats", "Bits against loss", lambda: content.formats(study)),
        make("layers-section", "Layers", lambda: content.layers(study)),
        make(
            "gallery",
            "The gallery of the study",
            lambda: gallery(study, lambda view, curve: fits[view, curve], networks),
        ),
        make("leaderboard-section", "Leaderboard", lambda: content.leaderboard(study)),
        make("validation", "Validation", lambda: content.validation(study)),
        make("sql", "Ask more in SQL", lambda: content.questions(study)),
    ]


def _assembled(study: "Study", sections: Sequence[Section]) -> str:
    parts = Parts()
    figures = {figure.name: figure.data(parts) for one in sections for figure in one.figures}
    source = study.path.name if study.path else "the embedded study"
    return _filled(
        _file("page.html"),
        {
            "title": escape(visible(f"ptqdb: {source}")),
            "about": escape(
                "What trained networks lose in quantized number formats. "
                f"Written by ptqdb {VERSION} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
            ),
            "links": "".join(
                f'<a href="#{escape(one.name)}">{escape(one.heading)}</a>' for one in sections
            ),
            "style": _file("page.css"),
            "sections": "\n".join(one.html for one in sections),
            "data": script_json(
                {"parts": parts.parts, "figures": figures, "config": PAGE_THEME.config()}
            ),
            "vega": _vega().replace("</script", "<\\/script"),
            "script": _file("page.js"),
        },
    )


def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, as in Altair's own pages."""
    import vl_convert

    bundle: Any = vl_convert.javascript_bundle  # its types ask for a snippet, itself does not
    text: str = bundle()
    return text


def _file(name: str) -> str:
    return files("ptqdb.report").joinpath(name).read_text(encoding="utf-8")


def _filled(template: str, parts: dict[str, str]) -> str:
    """A template with its parts in place."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
