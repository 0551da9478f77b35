"""Trains several reference networks: what is finished stays, what was stopped resumes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ptqdb.datasets.images import ImageSet
from ptqdb.errors import DataError, MismatchError
from ptqdb.networks.sources import described_source
from ptqdb.networks.training import Training, TrainingProgress, accuracy

Shown = Callable[[str, int], AbstractContextManager[Callable[[TrainingProgress], None]]]
"""Shows a training of a name and a number of steps: gives what is called after each step."""


@contextmanager
def untold(name: str, step_count: int) -> Iterator[Callable[[TrainingProgress], None]]:
    """Show a training to nobody."""
    yield lambda progress: None


@dataclass(frozen=True)
class TrainedReference:
    """A reference network whose weights are on disk.

    Attributes
    ----------
    path
        The checkpoint.
    seconds
        What the training took, all stretches together; None where it was finished before.
    accuracy
        On the test images, a fraction; None where there are none.
    """

    name: str
    path: Path
    seconds: float | None
    accuracy: float | None


def train(
    trainings: Sequence[Training],
    shown: Shown,
    *,
    test_images: ImageSet | None = None,
    anew: bool = False,
) -> Iterator[TrainedReference]:
    """Train what is not finished, one after the other, and judge each; the finished ones first.

    Parameters
    ----------
    test_images
        To judge on; None: nothing is judged.
    anew
        Whether what is there, of these trainings or of others, is trained anew. Of a call with
        `anew` that was stopped, the next one trains the rest.

    Raises
    ------
    MismatchError
        The weights or a state that is there come from another training; nothing was trained.
    DataError
        The folder cannot be written, or a state not be read.
    KeyboardInterrupt
        After the state of the training under way has been kept.
    """
    for training in trainings:
        training.make_folder()
    if anew:
        _begin_anew(trainings)
    finished = [training.is_finished() for training in trainings]
    for training, is_done in zip(trainings, finished, strict=True):
        if is_done:
            yield _judged(training, None, test_images)
    for training, is_done in zip(trainings, finished, strict=True):
        if not is_done:
            with shown(training.name, training.step_count) as tell:
                training.run(tell)
            yield _judged(training, training.elapsed_s, test_images)


def _begin_anew(trainings: Sequence[Training]) -> None:
    """Mark every training; where some are marked, those without a mark have finished since."""
    marked = [training.is_begun_anew() for training in trainings]
    for training, is_marked in zip(trainings, marked, strict=True):
        if not is_marked and not (any(marked) and _is_finished(training)):
            training.begin_anew()


def _is_finished(training: Training) -> bool:
    try:
        return training.is_finished()
    except (DataError, MismatchError):
        return False


def _judged(
    training: Training, seconds: float | None, test_images: ImageSet | None
) -> TrainedReference:
    """The weights as they are on disk."""
    share = None
    if test_images is not None:
        module = described_source(training.path).load().module.to(training.device)
        share = accuracy(module.to(memory_format=torch.channels_last), test_images)
    return TrainedReference(training.name, training.path, seconds, share)
