"""The published sweeps that curves and intervals are tried on, where they are at hand."""

import os
from functools import cache
from pathlib import Path

import polars as pl
import pytest

# Convolutions and linear layers of the published networks, as their architectures say: for
# ResNet_50 a stem, 16 blocks of three, four shortcuts and the head.
DEPTHS = {
    "AlexNet": 8,
    "AlexNet_BN": 8,
    "VGG_16": 16,
    "VGG_19": 19,
    "Inception_BN": 57,
    "MobileNetV2": 53,
    "ResNet_18": 21,
    "ResNet_50": 54,
    "ResNet_152": 156,
}


def folder() -> Path:
    """The folder with ``points.csv`` and ``r_squared.csv``; skips where there is none."""
    base = os.environ.get("PTQDB_TEST_DATA")
    if base is None or not (Path(base) / "published").is_dir():
        pytest.skip("PTQDB_TEST_DATA names no folder with published/points.csv")
    return Path(base) / "published"


@cache
def points() -> pl.DataFrame:
    """All points, with depth, width of a code, and the MAC-share divergence times the depth."""
    bits = pl.col("number_format").str.extract(r"_(\d+)").cast(pl.Float64)
    return (
        pl.read_csv(folder() / "points.csv")
        .with_columns(
            depth=pl.col("network").replace_strict(DEPTHS, return_dtype=pl.Float64),
            code_width=2.0 ** (1 - bits),
        )
        .with_columns(js_flops_depth=pl.col("js_flops") * pl.col("depth"))
    )


def printed() -> pl.DataFrame:
    """The R² that the authors printed, by study and network; ``ALL`` is the pool's."""
    return pl.read_csv(folder() / "r_squared.csv")
