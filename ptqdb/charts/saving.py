"""Writes a chart to a file: HTML that works offline, PNG, SVG, or Vega-Lite JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptqdb.errors import UsageError
from ptqdb.paths import is_there, written_beside

SUFFIXES = (".html", ".png", ".svg", ".json")
PNG_SCALE = 2


class _ScriptJson(json.JSONEncoder):
    """JSON that no text in it can end the script that it stands in: it has no ``<``."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("<", "\\u003c")


def save_chart(chart: Any, path: Path) -> None:
    """Write an Altair chart in the form that the file's suffix names.

    Parameters
    ----------
    chart
        Any Altair chart.
    path
        Ends in ``.html`` (one file that needs no other and no network), ``.png`` (two pixels
        per unit of the chart), ``.svg`` or ``.json`` (Vega-Lite). An existing file is replaced.

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
    # The menu's "open in editor" would send the data to a web page, and "view source" writes them
    # into a page as HTML, where a name could run a script.
    menu = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}
    options: dict[str, dict[str, Any]] = {
        "html": {"inline": True, "embed_options": menu, "json_kwds": {"cls": _ScriptJson}},
        "png": {"scale_factor": PNG_SCALE},
    }
    with written_beside(path) as partial:
        chart.save(str(partial), format=kind, **options.get(kind, {}))


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
