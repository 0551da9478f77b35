"""Predicts what a trained network loses in a quantized number format, without evaluating it there.

>>> import ptqdb
>>> with ptqdb.open() as study:  # the study that ships with the package; or the name of a file
...     frame = study.view("fakefreeze_flops_log")
...     fits = study.fit()
>>> frame["network"].n_unique(), fits[0].group, fits[0].points
(5, 'ALL', 215)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptqdb.datasets.reading import read_images as images
    from ptqdb.fitting.saved import load_fits
    from ptqdb.networks.sources import network_source as network
    from ptqdb.networks.trainings import train
    from ptqdb.study import Study
    from ptqdb.study import open_study as open  # noqa: A004
    from ptqdb.version import VERSION as __version__  # noqa: N811

__all__ = ["Study", "__version__", "images", "load_fits", "network", "open", "train"]

_PLACES = {
    "Study": ("ptqdb.study", "Study"),
    "__version__": ("ptqdb.version", "VERSION"),
    "images": ("ptqdb.datasets.reading", "read_images"),
    "load_fits": ("ptqdb.fitting.saved", "load_fits"),
    "network": ("ptqdb.networks.sources", "network_source"),
    "open": ("ptqdb.study", "open_study"),
    "train": ("ptqdb.networks.trainings", "train"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch takes seconds, and ``ptqdb.open`` does not need it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
