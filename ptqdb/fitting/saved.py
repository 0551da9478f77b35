"""Saves fitted curves as JSON and loads them; loaded curves predict the same."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptqdb.curves import curve as curve_by_name
from ptqdb.errors import DataError
from ptqdb.fitting.view_fit import GroupFit
from ptqdb.support.paths import regular_file, write_beside
from ptqdb.version import VERSION

if TYPE_CHECKING:
    from ptqdb.curves.function import FixedCurve

LAYOUT = 1


def save_fits(fits: Sequence[GroupFit], path: Path) -> None:
    """Write the fits of one view: their figures, and the curves for predictions.

    Parameters
    ----------
    fits
        As returned by `ptqdb.fitting.view_fit.fit_view_frame`; failed fits keep their ``note``.
    path
        An existing file is replaced.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    content = {"ptqdb_fit": LAYOUT, "version": VERSION, "fits": [_entry(fit) for fit in fits]}
    with write_beside(path) as partial:
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
    """Read the curves in a file written by `save_fits`, by group; ``ALL`` is the pooled curve.

    Raises
    ------
    DataError
        The file is missing, was not written by `save_fits`, or has an invalid value; the message
        names the file and the field.
    """
    path = Path(path)
    try:
        content = json.loads(regular_file(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"expected a saved fit at {path}, found: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _another(path, str(error)) from error
    if not isinstance(content, dict) or content.get("ptqdb_fit") != LAYOUT:
        raise _another(path, "its ptqdb_fit is not 1")
    fits = content.get("fits")
    if not isinstance(fits, list) or not all(isinstance(entry, dict) for entry in fits):
        raise _another(path, "its fits are not a list of objects")
    curves: dict[str, FixedCurve] = {}
    for place, entry in enumerate(fits):
        group = entry.get("group")
        if not isinstance(group, str) or group in curves:
            raise _another(path, f"fits[{place}].group is not a unique name")
        if "prediction" in entry:
            curves[group] = _fixed_curve(path, f"fits[{place}]", entry)
    return curves


def _another(path: Path, reason: str) -> DataError:
    return DataError(
        f"expected a file written by `ptqdb fit --save-fit` at {path}, found another: {reason}"
    )


def _fixed_curve(path: Path, place: str, entry: dict[str, Any]) -> "FixedCurve":
    from ptqdb.curves.function import FixedCurve

    prediction = entry["prediction"]
    if not isinstance(prediction, dict):
        raise _another(path, f"{place}.prediction is not an object")
    low, high = (
        _numbers(path, f"{place}.prediction.{end}", [prediction.get(end)])[0]
        for end in ("low", "high")
    )
    params = _numbers(path, f"{place}.params", entry.get("params"))
    options = prediction.get("options")
    if not isinstance(options, dict):
        raise _another(path, f"{place}.prediction.options is not an object")
    try:
        function = _function(entry.get("curve"), options)
        fixed = FixedCurve(function, np.array(params), low, high)
        # Options or params that do not belong to the curve raise an error or give NaN.
        with np.errstate(all="ignore"):
            is_whole = low <= high and len(params) == len(function.parameter_names)
            values = fixed.predict([low, high], 0.5)
    except Exception as error:  # a formula may raise anything for invalid values
        raise _another(path, f"{place} is not a fitted curve ({type(error).__name__})") from error
    if not is_whole or values.shape != (2,) or np.isnan(values).any():
        raise _another(path, f"{place} is not a fitted curve")
    return fixed


def _numbers(path: Path, place: str, values: Any) -> list[float]:
    """Finite numbers, as `save_fits` writes them."""
    if not isinstance(values, list):
        raise _another(path, f"{place} is not a list of numbers")
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) <= sys.float_info.max:
            raise _another(path, f"{place}: expected finite numbers, found {str(value)[:80]}")
    return [float(value) for value in values]


def _function(curve: Any, options: dict[str, Any]) -> Any:
    if not isinstance(curve, str):
        raise TypeError("the curve has no name")
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return curve_by_name(curve).function_class(**values)
