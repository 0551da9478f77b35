"""Shell completion for the names of views, curves, networks and number formats."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def views(incomplete: str) -> list[str]:
    """The named views."""
    from ptqdb.database.variants import read_csv

    return _starting([row["name"] for row in read_csv("variants.csv")], incomplete)


def curves(incomplete: str) -> list[str]:
    """The curves; also after a comma."""
    from ptqdb.curves import CURVES

    return _after_commas(CURVES, incomplete)


def number_formats(incomplete: str) -> list[str]:
    """The study's formats and the deployed ones; also after a comma."""
    from ptqdb.quantization.formats import DEPLOYED, DEPLOYED_FORMATS, STUDY, STUDY_FORMATS

    names = [known.name for known in (*STUDY_FORMATS, *DEPLOYED_FORMATS)]
    return _after_commas([STUDY, DEPLOYED, *names], incomplete)


def reference_networks(incomplete: str) -> list[str]:
    """The reference networks, and the prefixes of other sources."""
    from ptqdb.networks.reference import REFERENCE_NETWORKS

    return _starting([*REFERENCE_NETWORKS, "torchvision:", "timm:"], incomplete)


def collected_networks(ctx: Any, incomplete: str) -> list[str]:
    """The networks of the database given on the command line so far."""
    from ptqdb.defaults import DEFAULT_DATABASE
    from ptqdb.errors import PtqdbError
    from ptqdb.study import open_study

    named = ctx.params.get("db")
    path = Path(named) if named else DEFAULT_DATABASE
    try:
        with open_study(path if named or path.exists() else None) as study:
            names = study.sql("select name from network order by name")["name"].to_list()
    except PtqdbError:
        return []  # the command itself will report the error
    return _starting(names, incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _after_commas(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _starting(names, last)]
