"""Facts of schemes other than the study's: the same formulas, names, sizes and frontiers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import schemes
import synthetic

from ptqdb.database import connect, materialize, query, read_view, with_scheme
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.database.variants import variant_words
from ptqdb.errors import UsageError

FORMATS = ("INT_4", "INT_8", "POT_4", "FLOAT_6_E3", "FLOAT_8_E4")
SUMS = ("js_softmax", "nsr", "coherent", "orthogonal", "cosine", "pearson", "bits", "channelnsr")
HISTOGRAMS = (
    *("js", "kl", "hellinger", "total_variation", "wasserstein", "bin_cosine", "bin_pearson"),
)
GRIDS = ("uncovered", "uncovered_bins", "sharpness_gap")
SAME = ["network", "family", "bits", "ebits", "accuracy", "accuracy_loss", "images", "saturated"]


@pytest.fixture(scope="module")
def rewritten(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The shipped facts, those of AlexNet in some formats also as dequantized values."""
    path = tmp_path_factory.mktemp("rewritten") / "facts.duckdb"
    with open_embedded_facts() as shipped:
        (source,) = shipped.execute("select path from duckdb_databases() where not internal").fetchone() or ()
    shutil.copy(source, path)
    path.chmod(0o644)
    with connect(path, read_only=False) as connection:
        schemes.rewrite(connection, "AlexNet", FORMATS)
        materialize(connection)
        yield connection


def both(connection: duckdb.DuckDBPyConnection, words: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same cells in two frames: of the study's scheme, and of the rewritten one."""
    said = ", ".join(f"'{name}'" for name in FORMATS)
    study = read_view(connection, f"variant({words})", f"network = 'AlexNet' and number_format in ({said})")
    other = read_view(connection, f"variant({words}, scheme := 'rewritten')")
    return study, other
