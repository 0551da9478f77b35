"""Trains the reference networks; an interrupted training resumes bit-exactly.

Every step has its own random seed, so the state on disk consists only of weights, momentum and the
step number.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from ptqdb.datasets.images import ImageSet, normalize
from ptqdb.errors import DataError, MismatchError
from ptqdb.networks.checkpoints import NetworkDescription, read_description, save_checkpoint
from ptqdb.networks.reference import reference_network
from ptqdb.networks.training_settings import (
    TrainingSettings,
    learning_rate,
    require_fitting_images,
    require_memory,
    words,
)
from ptqdb.support.interruption import defer_interrupts
from ptqdb.support.paths import make_folder, without_magic, write_beside

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
PADDING_PIXELS = 4
SECONDS_BETWEEN_STATES = 30.0


@dataclass(frozen=True)
class TrainingProgress:
    """Progress after each step."""

    epoch: int
    step: int
    step_count: int
    loss: float
    images_per_s: float


def accuracy(module: nn.Module, images: ImageSet, *, batch_size: int = 500) -> float:
    """Return the fraction of images that the network classifies correctly, top-1, in float32.

    Parameters
    ----------
    images
        Normalized here with the mean and standard deviation of CIFAR-10.
    """
    module.eval()
    device = next(module.parameters()).device
    mean = torch.tensor(CIFAR10_MEAN, device=device)
    std = torch.tensor(CIFAR10_STD, device=device)
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            batch = normalize(images.images[rows], mean, std, torch.channels_last)
            predicted = module(batch).argmax(1)
            correct += int((predicted == images.known_labels()[rows].to(device)).sum())
    return correct / len(images)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to 4 pixels with zero padding; mirror it with probability 0.5.

    Parameters
    ----------
    images
        float32, (N, channels, height, width), normalized.
    """
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, [PADDING_PIXELS] * 4)
    shifts = torch.randint(0, 2 * PADDING_PIXELS + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = shifts[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = shifts[1] + torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    picked = torch.arange(count, device=images.device)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[picked, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


class Training:
    """The training of one network; ``run`` resumes from the state on disk, if any.

    Parameters
    ----------
    folder
        Contains ``NAME.state`` during training; ``NAME.safetensors`` and ``NAME.log.parquet``
        afterwards.

    Raises
    ------
    UsageError
        A setting is out of range, the batch size exceeds the number of images, or the network is
        too wide for the memory of the machine.
    DataError
        The images have no labels, or the wrong shape for the reference networks.
    """

    def __init__(
        self,
        name: str,
        images: ImageSet,
        folder: Path,
        settings: TrainingSettings,
        *,
        width: float = 1.0,
        device: str = "cpu",
    ):
        self.name, self.images, self.folder, self.settings = name, images, folder, settings
        self.width, self.device = width, torch.device(device)
        require_fitting_images(images, settings)
        require_memory(name, width, len(images.class_names))
        self.steps_per_epoch = len(images) // settings.batch_size
        self.step = 0
        self.elapsed_s = 0.0
        self.log: list[dict[str, float]] = []
        self.is_anew = False
        self.record = {**asdict(settings), "images": images.content_sha256}

    @property
    def path(self) -> Path:
        """File of the trained weights."""
        return self.folder / f"{self.name}.safetensors"

    @property
    def state_path(self) -> Path:
        """File of the training state."""
        return self.folder / f"{self.name}.state"

    @property
    def step_count(self) -> int:
        """Total number of steps."""
        return self.steps_per_epoch * self.settings.epochs

    def make_folder(self) -> None:
        """Create the folder if it is missing.

        Raises
        ------
        DataError
            It cannot be created.
        """
        make_folder(self.folder)

    def is_finished(self) -> bool:
        """Whether the weights of this training exist.

        Raises
        ------
        MismatchError
            The existing weights or state belong to another training; the message lists the
            differences.
        DataError
            The state cannot be read.
        """
        state = self._read_state()
        if state is not None and state["is_anew"] and not self.differences(state["identity"]):
            return False
        if self.path.exists():
            self._require_same(f"the training of {self.path}", _identity_of(self.path))
            return True
        if state is not None:
            self._require_same(f"the training begun in {self.state_path}", state["identity"])
        return False

    def is_begun_anew(self) -> bool:
        """Whether `begin_anew` was called and the training has not finished since."""
        with suppress(DataError):
            state = self._read_state()
            return (
                state is not None and state["is_anew"] and not self.differences(state["identity"])
            )
        return False

    def begin_anew(self) -> None:
        """Make the next `run` start from the first step and replace existing weights."""
        self.is_anew = True
        self._write_state({"identity": self.identity, "is_anew": True, "step": 0})

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the trained weights, except the machine."""
        return {**self.record, "name": self.name, "width": self.width}

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Describe the differences between another training's identity and this one's."""
        return [
            "other images"
            if key == "images"
            else f"{words(key)} {other.get(key)} instead of {value}"
            for key, value in self.identity.items()
            if other.get(key) != value
        ]

    def _require_same(self, what: str, identity: Mapping[str, Any]) -> None:
        if differences := self.differences(identity):
            raise MismatchError(
                f"{what} has {', '.join(differences)}: give the same arguments or another folder, "
                "or --replace to train again"
            )

    def run(self, tell: Callable[[TrainingProgress], None]) -> Path:
        """Train to the end, write the checkpoint and return its path.

        A KeyboardInterrupt stops the training after the current step; its state is saved.

        Raises
        ------
        MismatchError
            Weights already exist and `begin_anew` was not called, or the state belongs to another
            training.
        """
        self._begin()
        mean = torch.tensor(CIFAR10_MEAN, device=self.device)
        std = torch.tensor(CIFAR10_STD, device=self.device)
        self.module.train()
        saved_at = started_at = time.monotonic()
        elapsed_before_s, first_step = self.elapsed_s, self.step
        try:
            while self.step < self.step_count:
                with defer_interrupts():  # a partial step cannot be resumed
                    loss = self._train_step(mean, std)
                now = time.monotonic()
                self.elapsed_s = elapsed_before_s + now - started_at
                done = (self.step - first_step) * self.settings.batch_size
                tell(
                    TrainingProgress(
                        (self.step - 1) // self.steps_per_epoch + 1,
                        self.step,
                        self.step_count,
                        loss,
                        done / (now - started_at),
                    )
                )
                if now - saved_at > SECONDS_BETWEEN_STATES:
                    self._save_state()
                    saved_at = now
        except KeyboardInterrupt:
            self._save_state()
            raise
        with defer_interrupts():
            return self._finish()

    def _begin(self) -> None:
        """Build the network, and load the state on disk."""
        self.make_folder()
        torch.manual_seed(self.settings.seed)
        module = reference_network(self.name).build(self.width, len(self.images.class_names))
        self.module = module.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.module.parameters(),
            lr=self.settings.peak_learning_rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
            nesterov=True,
        )
        state = self._read_state() or {"identity": self.identity, "is_anew": False, "step": 0}
        self._require_same(f"the training begun in {self.state_path}", state["identity"])
        self.is_anew, self.step = state["is_anew"], state["step"]
        if self.path.exists() and not self.is_anew:
            raise MismatchError(
                f"expected no weights at {self.path} yet, found some; give another folder, or "
                "--replace to train again"
            )
        if "module" in state:
            self.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.elapsed_s, self.log = state["elapsed_s"], state["log"]

    def _train_step(self, mean: Tensor, std: Tensor) -> float:
        """Train on one batch, sampled and augmented with the seed of the step."""
        settings, step = self.settings, self.step
        epoch, position = divmod(step, self.steps_per_epoch)
        order = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        start = position * settings.batch_size
        stop = start + settings.batch_size
        rows = torch.randperm(len(self.images), generator=order)[start:stop]
        torch.manual_seed(settings.seed * 1_000_003 + 1_000_000_007 + step)
        generator = torch.Generator().manual_seed(torch.initial_seed() + 1)
        batch = augment(
            normalize(self.images.images[rows], mean, std, torch.channels_last), generator
        )
        labels = self.images.known_labels()[rows].to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, step, self.steps_per_epoch)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.module(batch)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        correct, loss_value = int((logits.argmax(1) == labels).sum()), float(loss.detach())
        row = {"step": self.step, "epoch": epoch + 1, "loss": loss_value, "correct": correct}
        self.log.append(row | {"images": len(labels), "elapsed_s": self.elapsed_s})
        return loss_value

    def _save_state(self) -> None:
        self._write_state(
            {
                "identity": self.identity,
                "is_anew": self.is_anew,
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "elapsed_s": self.elapsed_s,
                "log": self.log,
            }
        )

    def _write_state(self, state: dict[str, Any]) -> None:
        with write_beside(self.state_path) as partial:
            torch.save(state, partial)

    def _read_state(self) -> dict[str, Any] | None:
        """The content of the file; None if it does not exist."""
        if not self.state_path.exists():
            return None
        try:
            state = torch.load(self.state_path, map_location=self.device, weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError) as error:
            raise self._no_state() from error
        if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
            raise self._no_state()
        return {"is_anew": False, **state}

    def _no_state(self) -> DataError:
        return DataError(
            f"expected a training state, found {self.state_path}; delete that file or give "
            "--replace to start again"
        )

    def _finish(self) -> Path:
        self._write_log()
        description = NetworkDescription(
            self.name,
            self.width,
            len(self.images.class_names),
            CIFAR10_MEAN,
            CIFAR10_STD,
            self.record,
        )
        weights = {
            name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
            for name, tensor in self.module.state_dict().items()
        }
        save_checkpoint(self.path, description, weights)
        self.state_path.unlink(missing_ok=True)
        return self.path

    def _write_log(self) -> None:
        """Write one row per epoch."""
        epochs = pl.DataFrame(self.log).group_by("epoch", maintain_order=True)
        log = epochs.agg(
            loss=pl.col("loss").mean(),
            accuracy=pl.col("correct").sum() / pl.col("images").sum(),
            elapsed_s=pl.col("elapsed_s").max(),
        )
        with write_beside(self.folder / f"{self.name}.log.parquet") as partial:
            log.write_parquet(without_magic(partial))


def _identity_of(path: Path) -> dict[str, Any]:
    """The identity of the training of a checkpoint."""
    try:
        description = read_description(path)
    except DataError as error:
        raise MismatchError(f"{error}; --replace trains it again") from error
    if description is None or description.training is None:
        raise MismatchError(
            f"{path} does not say how it was trained: give another folder, or --replace to train "
            "it again"
        )
    return {
        **description.training,
        "name": description.name,
        "width": description.width,
    }
