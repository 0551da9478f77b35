"""How long a collection still takes, from what its cells have taken and how much work is left."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass
class _Network:
    """What is known of a network's cells.

    Attributes
    ----------
    cell_count, done_count
        To fill in all, and filled.
    work
        Of one cell, in any unit; None where unknown.
    cells_s
        What the filled ones took together.
    overhead_s
        What loading and calibrating took, and what came after its last cell; None before.
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
    """Follows a collection, and estimates what is left of it.

    A cell of a network takes as long as those of it that are filled did on average. Of a network
    without any, time is proportional to the work of a cell, at the rate of all filled cells; so is
    what loading and calibrating take. It corrects itself cell by cell.

    Parameters
    ----------
    clock
        Seconds from any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._networks: dict[str, _Network] = {}
        self._current: _Network | None = None
        self._is_preparing = False
        self._last = clock()

    @property
    def cell_count(self) -> int:
        """Cells to fill in all, less those of networks that failed before."""
        return sum(each.cell_count for each in self._networks.values())

    @property
    def done_count(self) -> int:
        """Cells that are filled."""
        return sum(each.done_count for each in self._networks.values())

    def weighed(self, network: str, cell_count: int, work: float | None) -> None:
        """So many cells of a network are to be filled; see ``Reporter``."""
        self._networks[network] = _Network(cell_count, work)

    def preparing(self, network: str) -> None:
        """A network is loaded; what was left of the one before has failed."""
        passed = self._passed()
        if self._current is not None:
            self._current.overhead_s = (self._current.overhead_s or 0.0) + passed
            if self._current is not self._networks.get(network):
                self._current.cell_count = self._current.done_count
        self._current = self._networks.get(network)
        self._is_preparing = True

    def prepared(self, network: str, cell_count: int) -> None:
        """The cells of a network follow."""
        current = self._networks[network]
        current.cell_count = cell_count
        current.overhead_s = (current.overhead_s or 0.0) + self._passed()
        self._is_preparing = False

    def filled(self, network: str) -> None:
        """One of them is filled."""
        current = self._networks[network]
        current.cells_s += self._passed()
        current.done_count += 1

    def seconds(self) -> float | None:
        """What is left; None before the first cell is filled."""
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
        """What a cell of a network takes."""
        if network.done_count:
            return network.cells_s / network.done_count
        known = [each for each in self._networks.values() if each.done_count]
        work = sum(each.done_count * self._work(each) for each in known)
        return self._work(network) * sum(each.cells_s for each in known) / work

    def _overhead_s(self, network: _Network) -> float:
        """What preparing a network takes."""
        known = [each for each in self._networks.values() if each.overhead_s is not None]
        work = sum(self._work(each) for each in known)
        return self._work(network) * sum(each.overhead_s or 0.0 for each in known) / work

    def _work(self, network: _Network) -> float:
        """That of a cell; where it is unknown, as much as those of the others have."""
        return network.work or _mean(each.work for each in self._networks.values()) or 1.0


def _mean(values: Iterable[float | None]) -> float:
    """The mean of those that are known; 0 without any."""
    known = [value for value in values if value]
    return sum(known) / len(known) if known else 0.0


def duration(seconds: float) -> str:
    """A rough duration in words.

    Examples
    --------
    >>> duration(42.4), duration(200), duration(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
