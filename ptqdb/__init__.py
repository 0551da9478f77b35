"""Predicts what a trained network loses in a quantized number format, without evaluating it there.

>>> import ptqdb
>>> with ptqdb.open() as study:  # the study that travels along; or the name of a file
...     frame = study.view("fakefreeze_flops_log")
...     fits = ptqdb.fit(study)
>>> frame["network"].n_unique(), fits[0].group, fits[0].points
(5, 'ALL', 215)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptqdb.datasets.reading import read_images as images
    from ptqdb.fitting.prediction import predict, recommend
    from ptqdb.fitting.saved import load_fits
    from ptqdb.networks.sources import network_source as network
    from ptqdb.report import write_report
    from ptqdb.study import Study, chart, check, collect, compare, export, fit, train, validate
    from ptqdb.study import open_study as open  # noqa: A004
    from ptqdb.version import VERSION as __version__  # noqa: N811

__all__ = [
    "Study",
    "__version__",
    "chart",
    "check",
    "collect",
    "compare",
    "export",
    "fit",
    "images",
    "load_fits",
    "network",
    "open",
    "predict",
    "recommend",
    "train",
    "validate",
    "write_report",
]

_PLACES = {
    "Study": ("ptqdb.study", "Study"),
    "__version__": ("ptqdb.version", "VERSION"),
    "chart": ("ptqdb.study", "chart"),
    "check": ("ptqdb.study", "check"),
    "collect": ("ptqdb.study", "collect"),
    "compare": ("ptqdb.study", "compare"),
    "export": ("ptqdb.study", "export"),
    "fit": ("ptqdb.study", "fit"),
    "images": ("ptqdb.datasets.reading", "read_images"),
    "load_fits": ("ptqdb.fitting.saved", "load_fits"),
    "network": ("ptqdb.networks.sources", "network_source"),
    "open": ("ptqdb.study", "open_study"),
    "predict": ("ptqdb.fitting.prediction", "predict"),
    "recommend": ("ptqdb.fitting.prediction", "recommend"),
    "train": ("ptqdb.study", "train"),
    "validate": ("ptqdb.study", "validate"),
    "write_report": ("ptqdb.report", "write_report"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch takes seconds, and ``ptqdb.fit`` does not need it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
