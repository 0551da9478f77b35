"""Progress of long commands on stderr: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ptqdb.cli.output import is_quiet, say
from ptqdb.collection.remaining_time import RemainingTime, duration
from ptqdb.support.text import visible

if TYPE_CHECKING:
    from ptqdb.collection.plan import Cell
    from ptqdb.networks.training import TrainingProgress

SECONDS_BETWEEN_LINES = 5.0


class _RateColumn(ProgressColumn):
    """Cells per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2f} cells/s", style="progress.data.speed")


class _RemainingColumn(ProgressColumn):
    """Estimated remaining time."""

    def __init__(self, remaining: RemainingTime) -> None:
        super().__init__()
        self._remaining = remaining

    def render(self, task: Task) -> Text:
        return Text(_left(self._remaining), style="progress.remaining")


def _left(remaining: RemainingTime) -> str:
    """The remaining time in words; empty while unknown."""
    seconds = remaining.seconds()
    return "" if seconds is None else f"about {duration(seconds)} left"


class CollectionProgress:
    """A ``Reporter`` that shows progress to a user; also a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._remaining = RemainingTime()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            _RemainingColumn(self._remaining),
            console=self._console,
            disable=is_quiet() or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("planning", total=None)
        self._told_at = time.monotonic()

    def __enter__(self) -> "CollectionProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def planned(self, cell_count: int, present_count: int) -> None:
        """Start the bar."""
        self._bar.update(self._task, total=cell_count)
        self.remarked(f"{cell_count} cells to fill, {present_count} already present")

    def weighed(self, network: str, cell_count: int, work: float | None) -> None:
        """Record a network's estimated work."""
        self._remaining.weighed(network, cell_count, work)

    def preparing(self, network: str) -> None:
        """Show the network's name."""
        self._remaining.preparing(network)
        self._bar.update(
            self._task,
            total=self._remaining.cell_count,
            description=visible(f"{network}: calibrating"),
        )
        if self._bar.disable:
            say(f"{network}: calibrating")

    def prepared(self, network: str, cell_count: int) -> None:
        """Record a network's number of cells."""
        self._remaining.prepared(network, cell_count)
        self._bar.update(self._task, total=self._remaining.cell_count)

    def filled(self, cell: "Cell") -> None:
        """Advance by a cell."""
        self._remaining.filled(cell.network)
        shown = f"{cell.network} {cell.label}"
        self._bar.update(self._task, advance=1, description=visible(shown))
        now = time.monotonic()
        done_count, cell_count = self._remaining.done_count, self._remaining.cell_count
        is_last = done_count == cell_count
        if self._bar.disable and (is_last or now - self._told_at > SECONDS_BETWEEN_LINES):
            self._told_at = now
            left = "" if is_last else f", {_left(self._remaining)}"
            say(f"{done_count}/{cell_count} {shown}{left}")

    def remarked(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar.disable:
            say(text)
        else:
            self._bar.console.print(visible(text), highlight=False, markup=False)


@contextmanager
def training_progress(name: str, step_count: int) -> Iterator["Callable[[TrainingProgress], None]"]:
    """Yield a function that shows training progress: a bar on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=is_quiet() or not console.is_terminal,
    ) as bar:
        task = bar.add_task(visible(name), total=step_count)
        told_epoch = 0

        def tell(progress: "TrainingProgress") -> None:
            nonlocal told_epoch
            text = (
                f"{name} epoch {progress.epoch}, loss {progress.loss:.3f}, "
                f"{progress.images_per_s:.0f} images/s"
            )
            bar.update(task, completed=progress.step, description=visible(text))
            if bar.disable and progress.epoch > told_epoch:
                told_epoch = progress.epoch
                say(f"{text}, step {progress.step}/{progress.step_count}")

        yield tell


class ComparisonProgress:
    """A ``CompareReporter`` that shows progress to a user; also a context manager."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=is_quiet() or not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("reading the views", total=None)

    def __enter__(self) -> "ComparisonProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def planned(self, fit_count: int, present_count: int) -> None:
        """Start the bar."""
        self._bar.update(self._task, total=fit_count, description="fitting")
        say(f"{fit_count} curves to fit, {present_count} already present")

    def fitted(self, view: str, curve: str) -> None:
        """Advance by a curve over a view."""
        self._bar.update(self._task, advance=1, description=visible(f"{view}, {curve}"))
