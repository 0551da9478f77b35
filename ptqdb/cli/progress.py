"""Shows how a long command goes on, on stderr: a bar on a terminal, plain lines elsewhere."""

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
from ptqdb.text import visible

if TYPE_CHECKING:
    from ptqdb.collection.plan import Cell
    from ptqdb.training import TrainingProgress

SECONDS_BETWEEN_LINES = 5.0


class _RateColumn(ProgressColumn):
    """Cells per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2f} cells/s", style="progress.data.speed")


class CollectionProgress:
    """A ``Reporter`` for people; to be used as a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=is_quiet() or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("planning", total=None)
        self._done_count = self._cell_count = 0
        self._started_at = self._told_at = time.monotonic()

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
        self._cell_count = cell_count
        self._bar.update(self._task, total=cell_count)
        self.remarked(f"{cell_count} cells to fill, {present_count} there already")

    def preparing(self, network: str) -> None:
        """Name the network."""
        self._bar.update(self._task, description=visible(f"{network}: calibrating"))
        if self._bar.disable:
            say(f"{network}: calibrating")

    def filled(self, cell: "Cell") -> None:
        """Advance by a cell."""
        scope = "" if cell.scope == "all" else f" ({cell.scope})"
        self._done_count += 1
        self._bar.update(
            self._task,
            advance=1,
            description=visible(f"{cell.network} {cell.number_format}{scope}"),
        )
        now = time.monotonic()
        last = self._done_count == self._cell_count
        if self._bar.disable and (last or now - self._told_at > SECONDS_BETWEEN_LINES):
            self._told_at = now
            rate = self._done_count / (now - self._started_at)
            remaining_s = (self._cell_count - self._done_count) / rate
            done = f"{self._done_count}/{self._cell_count}"
            say(
                f"{done} {cell.network} {cell.number_format}{scope}, "
                f"{rate:.2f} cells/s, {remaining_s:.0f} s remaining"
            )

    def remarked(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar.disable:
            say(text)
        else:
            self._bar.console.print(visible(text), highlight=False, markup=False)


@contextmanager
def training_progress(name: str, step_count: int) -> Iterator["Callable[[TrainingProgress], None]"]:
    """A function that shows a training's steps; on a terminal as a bar, elsewhere in lines."""
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
    """A ``CompareReporter`` for people; to be used as a context manager."""

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
        say(f"{fit_count} curves to fit, {present_count} there already")

    def fitted(self, view: str, curve: str) -> None:
        """Advance by a curve over a view."""
        self._bar.update(self._task, advance=1, description=visible(f"{view}, {curve}"))
