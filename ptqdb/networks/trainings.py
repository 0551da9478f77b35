"""Trains several reference networks; skips finished trainings and resumes interrupted ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ptqdb.datasets.images import ImageSet
from ptqdb.errors import DataError, MismatchError
from ptqdb.networks.devices import require_device
from ptqdb.networks.sources import described_source
from ptqdb.networks.training import Training, TrainingProgress, accuracy
from ptqdb.networks.training_settings import choose_settings

Shown = Callable[[str, int], AbstractContextManager[Callable[[TrainingProgress], None]]]
"""From a name and a number of steps, a context that returns the progress callback."""


@contextmanager
def untold(name: str, step_count: int) -> Iterator[Callable[[TrainingProgress], None]]:
    """Show no progress."""
    yield lambda progress: None


@dataclass(frozen=True)
class TrainedReference:
    """A reference network whose weights are on disk.

    Attributes
    ----------
    path
        The checkpoint.
    seconds
        Total training time over all runs; None if it was already finished.
    accuracy
        On the test images, as a fraction; None without test images.
    """

    name: str
    path: Path
    seconds: float | None
    accuracy: float | None


def run_trainings(
    trainings: Sequence[Training],
    shown: Shown,
    *,
    test_images: ImageSet | None = None,
    anew: bool = False,
) -> Iterator[TrainedReference]:
    """Train the unfinished networks in turn, and evaluate each; finished ones come first.

    Parameters
    ----------
    test_images
        For the evaluation; None: no evaluation.
    anew
        Whether to discard existing weights and states and train again. After an interrupted call
        with `anew`, the next one trains the rest.

    Raises
    ------
    MismatchError
        Existing weights or a state belong to another training; nothing was trained.
    DataError
        The folder cannot be written, or a state cannot be read.
    KeyboardInterrupt
        Interrupted; the state of the current training was saved.
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
    """Mark every training as new; if some already are, the others have finished since."""
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
    """Evaluate the weights on disk."""
    share = None
    if test_images is not None:
        module = described_source(training.path).load().module.to(training.device)
        share = accuracy(module.to(memory_format=torch.channels_last), test_images)
    return TrainedReference(training.name, training.path, seconds, share)


def train(
    names: str | Sequence[str],
    images: ImageSet,
    folder: Path | str,
    *,
    test_images: ImageSet | None = None,
    width: float = 1.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    replace: bool = False,
) -> list[TrainedReference]:
    """Train reference networks; finished checkpoints are kept, interrupted trainings resume.

    Parameters
    ----------
    names
        One or several reference networks.
    images, test_images
        Images for training and for testing, as returned by `ptqdb.images`, 3 channels of 32 x 32
        pixels.
    folder
        Receives ``NAME.safetensors`` and ``NAME.log.parquet`` of each network.
    width
        Factor for all hidden channel counts.
    epochs, batch_size, learning_rate
        None: each network's own setting.
    replace
        Whether to replace existing checkpoints.

    Raises
    ------
    UsageError
        No such network or device, or a number out of bounds.
    MismatchError
        The folder has a checkpoint of the same name from other settings or images.
    DataError
        The images cannot be used for training, or the folder cannot be written.
    """
    require_device(device)
    settings = choose_settings(
        [names] if isinstance(names, str) else names,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    trainings = [
        Training(name, images, Path(folder), chosen, width=width, device=device)
        for name, chosen in settings.items()
    ]
    return list(run_trainings(trainings, untold, test_images=test_images, anew=replace))
