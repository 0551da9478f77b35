"""How much ``--until`` saves and how far it is off: replayed on the shipped facts.

    uv run python benchmarks/until.py

Nothing is evaluated. The embedded study has one bit per image, in the order of evaluation. The
full study has counts alone, so its images are put into random orders that agree with the counts.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ptqdb.database import connect, query, read_view
from ptqdb.database.exchange import import_study
from ptqdb.defaults import FIT_CURVE, FIT_VIEW
from ptqdb.fitting.view_fit import fit_view_frame
from ptqdb.measurement.first_images import Looks, is_enough
from ptqdb.support.text import markdown_table

DATA = Path(__file__).parents[1] / "data"
EMBEDDED, FULL = DATA / "embedded" / "facts", DATA / "cifar10"
BATCH = 100
"""Images between two chances to stop: less than 128, more than the 16 of an Inception."""

Bits = NDArray[np.bool_]
OF_STUDY = "scheme_id = (select scheme_id from scheme where name = study_scheme())"


@dataclass(frozen=True)
class Cell:
    """An evaluation in a format, image by image, beside the float network on the same images."""

    network_id: int
    number_format_id: int
    scope: str
    right: Bits
    float_right: Bits

    def loss(self, count: int) -> float:
        """The accuracy loss over the first images."""
        floats, right = int(self.float_right[:count].sum()), int(self.right[:count].sum())
        return (floats - right) / floats

    def image_count(self, until: float) -> int:
        """The number of images at which an evaluation stops."""
        looks = Looks()
        for end in range(BATCH, len(self.right), BATCH):
            if looks.is_due(end):
                right, floats = self.right[:end], self.float_right[:end]
                both = int((right & floats).sum())
                if is_enough(end, int(right.sum()), int(floats.sum()), both, until):
                    return end
        return len(self.right)


@dataclass(frozen=True)
class Replay:
    """What a stopping rule does to all cells of a study.

    Attributes
    ----------
    share
        Fraction of the images that are evaluated.
    mean_error, worst_error, rms_error
        Of the losses, with respect to those over all images.
    bias
        Mean signed error of the losses.
    r_squared_change
        Of the default view's curve.
    """

    share: float
    bias: float
    mean_error: float
    rms_error: float
    worst_error: float
    r_squared: float
    r_squared_change: float


def bits_of(text: str) -> Bits:
    """Characters 0 and 1 as booleans."""
    return np.frombuffer(text.encode(), dtype=np.uint8) == ord("1")


def text_of(bits: Bits) -> str:
    """Booleans as characters 0 and 1."""
    return (bits.astype(np.uint8) + ord("0")).tobytes().decode()


@contextmanager
def imported(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A study's facts in a temporary file."""
    with TemporaryDirectory() as place:
        connection = connect(Path(place) / "study.duckdb", read_only=False)
        with connection:
            import_study(connection, folder)
            yield connection


def cells_with_bits(connection: duckdb.DuckDBPyConnection) -> list[Cell]:
    """The cells of a study that has bits."""
    rows = query(
        connection,
        "select network_id, number_format_id, scope, correct_images::varchar as bits, "
        "float_correct_images::varchar as float_bits from compared_evaluation() "
        "where scope in ('all', 'weight', 'bias', 'input') and correct_images is not null "
        f"and {OF_STUDY} order by all",
    ).rows()
    return [Cell(*row[:3], bits_of(row[3]), bits_of(row[4])) for row in rows]


def cells_in_random_order(connection: duckdb.DuckDBPyConnection, seed: int) -> list[Cell]:
    """The cells of a study of counts alone, their images in a random order that agrees with them.

    The images that the float network has right are drawn once per network, and then, per cell,
    those that stay right and those that become right.
    """
    random = np.random.default_rng(seed)
    rows = query(
        connection,
        "select network_id, number_format_id, scope, image_count, correct_top1, correct_both, "
        "float_correct_top1 from compared_evaluation() where scope = 'all' "
        f"and {OF_STUDY} order by all",
    ).rows()
    floats: dict[int, Bits] = {}
    cells = []
    for network_id, number_format_id, scope, count, correct, both, float_correct in rows:
        if network_id not in floats:
            floats[network_id] = np.zeros(count, dtype=np.bool_)
            floats[network_id][random.permutation(count)[:float_correct]] = True
        was_right = floats[network_id]
        right = np.zeros(count, dtype=np.bool_)
        for places, chosen in ((was_right, both), (~was_right, correct - both)):
            right[random.choice(np.flatnonzero(places), chosen, replace=False)] = True
        cells.append(Cell(network_id, number_format_id, scope, right, was_right))
    return cells


def shuffled(cells: list[Cell], seed: int) -> list[Cell]:
    """The cells with their images in one other order."""
    order = np.random.default_rng(seed).permutation(len(cells[0].right))
    return [
        replace(cell, right=cell.right[order], float_right=cell.float_right[order])
        for cell in cells
    ]


def r_squared(connection: duckdb.DuckDBPyConnection) -> float:
    """Of the default curve over the default view."""
    frame = read_view(connection, FIT_VIEW)
    (fit,) = fit_view_frame(frame, view=FIT_VIEW, curve=FIT_CURVE, by=None, leave_out_by=None)
    found = fit.r_squared
    assert found is not None
    return found


def replayed(connection: duckdb.DuckDBPyConnection, cells: list[Cell], until: float) -> Replay:
    """Shorten the cells in the database, fit, and put them back."""
    before = r_squared(connection)
    counts = [cell.image_count(until) for cell in cells]
    errors = np.array(
        [
            cell.loss(count) - cell.loss(len(cell.right))
            for cell, count in zip(cells, counts, strict=True)
        ]
    )
    connection.execute("begin")
    try:
        _shorten(connection, cells, counts)
        after = r_squared(connection)
    finally:
        connection.execute("rollback")
    return Replay(
        share=sum(counts) / sum(len(cell.right) for cell in cells),
        bias=float(errors.mean()),
        mean_error=float(np.abs(errors).mean()),
        rms_error=float(np.sqrt((errors**2).mean())),
        worst_error=float(np.abs(errors).max()),
        r_squared=before,
        r_squared_change=after - before,
    )


def _shorten(connection: duckdb.DuckDBPyConnection, cells: list[Cell], counts: list[int]) -> None:
    floats = {cell.network_id: text_of(cell.float_right) for cell in cells}
    for network_id, text in floats.items():
        connection.execute(
            "update evaluation set correct_images = ?::bit where network_id = ? and scope = 'none'",
            [text, network_id],
        )
    rows = [
        (
            *(cell.network_id, cell.number_format_id, cell.scope, count),
            int(cell.right[:count].sum()),
            int((cell.right[:count] & cell.float_right[:count]).sum()),
        )
        for cell, count in zip(cells, counts, strict=True)
    ]
    columns = ["network_id", "number_format_id", "scope", "n", "correct", "both_count"]
    connection.register("_shorter", pl.DataFrame(rows, columns, orient="row").__arrow_c_stream__())
    connection.execute("create or replace temp table shorter as from _shorter")
    connection.unregister("_shorter")
    connection.execute(
        "update evaluation as e set image_count = s.n, correct_top1 = s.correct, "
        "correct_both = s.both_count from shorter as s where e.network_id = s.network_id "
        f"and e.number_format_id = s.number_format_id and e.scope = s.scope and e.{OF_STUDY}"
    )


def main() -> None:
    """Print a table of both studies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--until", type=float, nargs="*", default=[0.01, 0.005, 0.002])
    parser.add_argument("--orders", type=int, default=20, help="random orders of the full study")
    chosen = parser.parse_args()
    started = time.perf_counter()
    rows: list[tuple[str, ...]] = []
    with imported(EMBEDDED) as connection:
        cells = cells_with_bits(connection)
        if not cells:
            sys.stderr.write("the embedded study has no bits\n")
        together = [cell for cell in cells if cell.scope == "all"]
        orders = [shuffled(together, seed) for seed in range(chosen.orders)]
        for until in chosen.until if cells else []:
            for name, tried in (
                ("embedded", [together]),
                ("embedded, every scope", [cells]),
                ("embedded, other orders", orders),
            ):
                found = [replayed(connection, some, until) for some in tried]
                rows.append(_row(name, tried[0], until, found))
    with imported(FULL) as connection:
        orders = [cells_in_random_order(connection, seed) for seed in range(chosen.orders)]
        for until in chosen.until:
            found = [replayed(connection, cells, until) for cells in orders]
            rows.append(_row("full", orders[0], until, found))
    header = ("study", "cells", "until", "images", "bias of the loss", "mean error", "rms error",
              "worst error", "R²", "change of R²")  # fmt: skip
    sys.stdout.write(markdown_table(header, rows) + "\n")
    sys.stdout.write(
        f"\n{date.today()}, {len(os.sched_getaffinity(0))} cores, "
        f"{time.perf_counter() - started:.0f} s\n"
    )


def _row(name: str, cells: list[Cell], until: float, found: list[Replay]) -> tuple[str, ...]:
    """Means over the orders; of the worst error, the largest."""

    def mean(figure: Callable[[Replay], float]) -> float:
        return float(np.mean([figure(one) for one in found]))

    spread = np.std([one.bias for one in found]) / max(1, len(found) - 1) ** 0.5
    changes = [one.r_squared_change for one in found]
    return (
        name,
        str(len(cells)),
        f"{until:g}",
        f"{mean(lambda one: one.share):.1%}",
        f"{mean(lambda one: one.bias):+.5f}" + (f" ± {spread:.5f}" if len(found) > 1 else ""),
        f"{mean(lambda one: one.mean_error):.4f}",
        f"{mean(lambda one: one.rms_error):.4f}",
        f"{max(one.worst_error for one in found):.4f}",
        f"{found[0].r_squared:.4f}",
        f"{min(changes):+.4f} ... {max(changes):+.4f}" if len(found) > 1 else f"{changes[0]:+.4f}",
    )


if __name__ == "__main__":
    main()
