"""Modules and pictures of 8 x 8 pixels that are collected in a moment."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ptqdb
from ptqdb.collection.sweep import CollectionOutcome
from ptqdb.database import connect
from ptqdb.database.checks import check
from ptqdb.datasets.images import ImageSet


def pictures(count: int, split: str = "test", class_count: int = 4) -> ImageSet:
    """Random pictures of one channel, of classes that are named."""
    generator = torch.Generator().manual_seed(len(split))
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % class_count
    return ImageSet("toy", split, pixels, labels, tuple("abcdefghij"[:class_count]))


def three_layers(seed: int = 1) -> nn.Sequential:
    """A convolution, ``0``, and two linear layers, ``3`` and ``5``, for four classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 12), nn.ReLU(), nn.Linear(12, 4)
    )


class Database:
    """A file that modules are collected into, beginning with a copy of an empty one."""

    def __init__(self, empty_file: Path, folder: Path) -> None:
        self.path = Path(shutil.copy(empty_file, folder / "study.duckdb"))

    def collect(
        self,
        module: nn.Module,
        number_formats: str,
        *,
        name: str = "net",
        count: int = 12,
        **changes: Any,
    ) -> CollectionOutcome:
        """Collect a module on the pictures."""
        source = ptqdb.network(module.eval(), name=name, mean=[0.5], std=[0.25])
        shown, calibration = pictures(count), pictures(8, "train")
        return ptqdb.open(self.path, create=True).collect(
            source, shown, calibration, number_formats=number_formats, **changes
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with connect(self.path, read_only=True) as connection:
            return connection.execute(query).fetchall()

    def failed_checks(self) -> dict[str, list[tuple[Any, ...]]]:
        """Checks that found something, with the first of the rows that are wrong."""
        with connect(self.path, read_only=True) as connection:
            return {
                result.name: result.rows.head(3).rows()
                for result in check(connection)
                if not result.has_passed
            }
