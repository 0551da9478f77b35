"""Writes a chart to a file: HTML that works offline, PNG, SVG, or Vega-Lite JSON."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from altair.utils.schemapi import debug_mode

from ptqdb.errors import UsageError
from ptqdb.support.paths import is_there, write_beside
from ptqdb.support.templates import render

SUFFIXES = (".html", ".png", ".svg", ".json")
PNG_SCALE = 2
# More digits than a picture can show.
DIGITS = 5


def save_chart(chart: Any, path: Path) -> None:
    """Write an Altair chart in the form that the file's suffix names.

    Parameters
    ----------
    chart
        Any Altair chart.
    path
        Ends in ``.html`` (one file that needs no other and no network; it fills the window),
        ``.png`` (two pixels per unit of the chart), ``.svg`` or ``.json`` (Vega-Lite). An existing
        file is replaced.

    Raises
    ------
    UsageError
        Another suffix, or the folder is missing.
    DataError
        The file cannot be written.
    """
    path = Path(path)
    check_path(path)
    kind = path.suffix.lower()[1:]
    options = {"scale_factor": PNG_SCALE} if kind == "png" else {}
    # The tests check charts against Altair's schema; here it would take most of the time.
    with write_beside(path) as partial, debug_mode(False):
        if kind == "html":
            partial.write_text(chart_page(chart), encoding="utf-8")
        else:
            chart.save(str(partial), format=kind, **options)


def chart_page(chart: Any) -> str:
    """A page that shows the chart as large as the window, and needs no other file."""
    spec = chart.to_dict(validate=False)
    config = spec.get("config", {})
    heading = spec.get("title", "")
    text = heading.get("text", "") if isinstance(heading, dict) else heading
    return render(
        "ptqdb.charts",
        "window.html",
        title=str(text),
        background=config.get("background", "white"),
        text=config.get("title", {}).get("color", "black"),
        spec=script_json(short(spec)),
        vega=vega_script(),
        script=files("ptqdb.charts").joinpath("window.js").read_text(encoding="utf-8"),
    )


def short(value: Any) -> Any:
    """JSON without digits that no picture shows; what is not finite becomes null.

    Examples
    --------
    >>> short({"x": [1.23456789, float("nan"), 7]})
    {'x': [1.2346, None, 7]}
    """
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [short(item) for item in value]
    return value


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element of a page.

    Examples
    --------
    >>> "<" in script_json({"a": "</script>"})
    False
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, as in Altair's own pages."""
    import vl_convert

    bundle: Any = vl_convert.javascript_bundle  # its types ask for a snippet, itself does not
    text: str = bundle()
    return text.replace("</script", "<\\/script")


def check_path(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Refuse a file that could not be written, before anything is computed for it.

    Parameters
    ----------
    suffixes
        What its name may end in.

    Raises
    ------
    UsageError
        Another suffix, or the folder is missing.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            f"expected a chart file ending in {', '.join(suffixes)}, found {path.name!r}; "
            "choose one of them"
        )
    if not (is_there(path.parent) and path.parent.is_dir()):
        raise UsageError(f"expected an existing folder, found none at {path.parent}; create it")
