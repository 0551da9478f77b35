"""Estimates a collection's remaining time from its finished cells and the work left."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass
class _Network:
    """Counts and times of a network's cells.

    Attributes
    ----------
    cell_count, done_count
        Number of cells to fill in total, and filled so far.
    work
        Work per cell, in any unit; None if unknown.
    cells_s
        Total time of the filled cells.
    overhead_s
        Time for loading, calibrating, and anything after its last cell; None before.
    """

    cell_count: int
    work: float | None
    done_count: int = 0
    cells_s: float = 0.0
    overhead_s: float | None = None

    @property
    def left_count(self) -> int:
        return self.cell_count - self.done_count


class RemainingTime:
    """Tracks a collection and estimates its remaining time.

    A cell is assumed to take the mean time of the network's filled cells. For a network without
    filled cells, the time is proportional to the work of a cell, at the rate of all filled cells;
    likewise for loading and calibrating. The estimate is updated with every cell.

    Parameters
    ----------
    clock
        Seconds since any fixed time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._networks: dict[str, _Network] = {}
        self._current: _Network | None = None
        self._is_preparing = False
        self._last = clock()

    @property
    def cell_count(self) -> int:
        """Total number of cells to fill, without the remaining ones of failed networks."""
        return sum(each.cell_count for each in self._networks.values())

    @property
    def done_count(self) -> int:
        """Number of filled cells."""
        return sum(each.done_count for each in self._networks.values())

    def weighed(self, network: str, cell_count: int, work: float | None) -> None:
        """Receive the number of cells of a network and their work; see ``Reporter``."""
        self._networks[network] = _Network(cell_count, work)

    def preparing(self, network: str) -> None:
        """A network is being loaded; unfilled cells of the previous network have failed."""
        passed = self._passed()
        if self._current is not None:
            self._current.overhead_s = (self._current.overhead_s or 0.0) + passed
            if self._current is not self._networks.get(network):
                self._current.cell_count = self._current.done_count
        self._current = self._networks.get(network)
        self._is_preparing = True

    def prepared(self, network: str, cell_count: int) -> None:
        """A network is prepared, and its number of cells known."""
        current = self._networks[network]
        current.cell_count = cell_count
        current.overhead_s = (current.overhead_s or 0.0) + self._passed()
        self._is_preparing = False

    def filled(self, network: str) -> None:
        """A cell of a network is filled."""
        current = self._networks[network]
        current.cells_s += self._passed()
        current.done_count += 1

    def seconds(self) -> float | None:
        """Return the remaining time; None before the first cell is filled."""
        if not self.done_count:
            return None
        since = self._clock() - self._last
        left = 0.0
        for each in self._networks.values():
            if each.left_count:
                cell_s = self._cell_s(each)
                left += each.left_count * cell_s
                if each is self._current and not self._is_preparing:
                    left -= min(since, cell_s)
            if each.left_count and each.overhead_s is None:
                overhead_s = self._overhead_s(each)
                left += overhead_s
                if each is self._current:
                    left -= min(since, overhead_s)
        return left

    def _passed(self) -> float:
        """Seconds since the last event."""
        before, self._last = self._last, self._clock()
        return self._last - before

    def _cell_s(self, network: _Network) -> float:
        """Estimated time of a network's cell."""
        if network.done_count:
            return network.cells_s / network.done_count
        known = [each for each in self._networks.values() if each.done_count]
        work = sum(each.done_count * self._work(each) for each in known)
        return self._work(network) * sum(each.cells_s for each in known) / work

    def _overhead_s(self, network: _Network) -> float:
        """Estimated time to prepare a network."""
        known = [each for each in self._networks.values() if each.overhead_s is not None]
        work = sum(self._work(each) for each in known)
        return self._work(network) * sum(each.overhead_s or 0.0 for each in known) / work

    def _work(self, network: _Network) -> float:
        """Work of a cell; if unknown, the mean of the other networks."""
        return network.work or _mean(each.work for each in self._networks.values()) or 1.0


def _mean(values: Iterable[float | None]) -> float:
    """The mean of the known values; 0 without any."""
    known = [value for value in values if value]
    return sum(known) / len(known) if known else 0.0


def duration(seconds: float) -> str:
    """Return a rough duration as text.

    Examples
    --------
    >>> duration(42.4), duration(200), duration(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
