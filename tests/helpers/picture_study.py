"""A small study with the formats that pictures look at."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import synthetic

from ptqdb.database import connect, materialize
from ptqdb.quantization.number_formats import number_format
from ptqdb.study import Study, open_study

NAMES = (
    *("INT_2", "INT_4", "INT_5", "INT_8", "INT_12", "POT_2", "POT_3", "POT_4", "POT_5"),
    *("FLOAT_5_E3", "FLOAT_6_E3"),
)
FORMATS = tuple(number_format(name) for name in NAMES)


def write_study(path: Path, networks: int = len(synthetic.NETWORKS)) -> Path:
    """Fill an empty database."""
    with connect(path, read_only=False) as connection:
        synthetic.fill(
            connection,
            networks=synthetic.NETWORKS[:networks],
            formats=FORMATS,
            scopes=("all", "layer"),
        )
        materialize(connection)
    return path


@contextmanager
def opened(path: Path) -> Iterator[Study]:
    """The study of a file."""
    with ExitStack() as stack:
        yield stack.enter_context(open_study(path))


def spec_of(chart: Any) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict()
    return spec


def data(spec: dict[str, Any], part: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a part of a picture, wherever they stand."""
    rows: list[dict[str, Any]] = spec["datasets"][part["data"]["name"]]
    return rows
