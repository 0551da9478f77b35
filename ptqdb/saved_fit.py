"""Fitted curves as a JSON file, which predict the same when they are loaded again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptqdb.curves import curve as curve_by_name
from ptqdb.errors import DataError
from ptqdb.fitting import GroupFit
from ptqdb.paths import written_beside
from ptqdb.version import VERSION

if TYPE_CHECKING:
    from ptqdb.curves.function import FixedCurve

LAYOUT = 1


def save_fits(fits: Sequence[GroupFit], path: Path) -> None:
    """Write the fits of one view: figures, and what a prediction needs.

    Parameters
    ----------
    fits
        As `ptqdb.fitting.fit_view_frame` gives them; a group without a fit keeps its ``note``.
    path
        Replaced where it exists.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    content = {"ptqdb_fit": LAYOUT, "version": VERSION, "fits": [_entry(fit) for fit in fits]}
    with written_beside(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _entry(fit: GroupFit) -> dict[str, Any]:
    entry = fit.as_dict()
    if fit.fitted is not None:
        fixed = fit.fitted.fixed
        entry["prediction"] = {
            "options": asdict(fixed.function),
            "low": fixed.low,
            "high": fixed.high,
        }
    return entry


def load_fits(path: Path | str) -> "Mapping[str, FixedCurve]":
    """Read the curves of a file that `save_fits` wrote, by group; ``ALL`` is the pool's.

    Raises
    ------
    DataError
        The file is missing or was not written by `save_fits`.
    """
    from ptqdb.curves.function import FixedCurve

    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("ptqdb_fit") != LAYOUT:
            raise ValueError(f"layout {content.get('ptqdb_fit')!r}")
        return {
            entry["group"]: FixedCurve(
                _function(entry),
                np.array(entry["params"]),
                entry["prediction"]["low"],
                entry["prediction"]["high"],
            )
            for entry in content["fits"]
            if "prediction" in entry
        }
    except OSError as error:
        raise DataError(f"expected a saved fit at {path}, found: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected a file written by `ptqdb fit --save-fit` at {path}, found another: {error}"
        ) from error


def _function(entry: dict[str, Any]) -> Any:
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in entry["prediction"]["options"].items()
    }
    return curve_by_name(entry["curve"]).function_class(**options)
