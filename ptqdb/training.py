"""Trains the reference networks; a stopped training goes on where it was, to the bit.

Every step draws its randomness from a seed of its own, so that the state on disk is weights,
momentum and the number of the step: nothing else decides what comes next.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import polars as pl
import torch
from torch import Tensor, nn

from ptqdb.checkpoints import NetworkDescription, save_checkpoint
from ptqdb.datasets import ImageSet, normalized
from ptqdb.errors import DataError, MismatchError
from ptqdb.networks import reference_network
from ptqdb.paths import make_folder, without_magic, written_beside

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
PADDING_PIXELS = 4
SECONDS_BETWEEN_STATES = 30.0


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained: SGD with Nesterov momentum, linear warm-up, cosine to zero.

    Attributes
    ----------
    epochs
        Passes over the training images.
    peak_learning_rate
        Reached at the end of the warm-up.
    weight_decay
        On every parameter.
    """

    epochs: int
    batch_size: int = 128
    peak_learning_rate: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warmup_epochs: float = 2.0
    seed: int = 0


SETTINGS = {
    "AlexNet": TrainingSettings(epochs=30, peak_learning_rate=0.04),
    "AlexNet_BN": TrainingSettings(epochs=30),
    "VGG_16": TrainingSettings(epochs=26),
    "VGG_19": TrainingSettings(epochs=20),
    "Inception_BN": TrainingSettings(epochs=8, batch_size=256, peak_learning_rate=0.2),
    "MobileNetV2": TrainingSettings(epochs=100),
    "ResNet_18": TrainingSettings(epochs=60),
    # Deep ones diverge in their first epochs at the full rate more easily.
    "ResNet_50": TrainingSettings(epochs=60, warmup_epochs=5.0),
    "ResNet_152": TrainingSettings(epochs=60, warmup_epochs=5.0),
}


@dataclass(frozen=True)
class TrainingProgress:
    """What is told after each step."""

    epoch: int
    step: int
    step_count: int
    loss: float
    images_per_s: float


def accuracy(module: nn.Module, images: ImageSet, *, batch_size: int = 500) -> float:
    """Share of the images that the network classifies rightly, top-1, in float32.

    Parameters
    ----------
    images
        Normalized with CIFAR-10's mean and standard deviation before they are fed.
    """
    module.eval()
    device = next(module.parameters()).device
    mean = torch.tensor(CIFAR10_MEAN, device=device)
    std = torch.tensor(CIFAR10_STD, device=device)
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            batch = normalized(images.images[rows], mean, std, torch.channels_last)
            predicted = module(batch).argmax(1)
            correct += int((predicted == images.known_labels()[rows].to(device)).sum())
    return correct / len(images)


def learning_rate(settings: TrainingSettings, step: int, steps_per_epoch: int) -> float:
    """The rate of a step: linear from 0 to the peak, then half a cosine to 0."""
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.peak_learning_rate * (step + 1) / warmup
    rest = (step - warmup) / (settings.epochs * steps_per_epoch - warmup)
    return settings.peak_learning_rate * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * rest))))


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to 4 pixels over a zero border, and mirrored half the time.

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
    """One network in training; ``run`` goes on from the state on disk, if there is one.

    Parameters
    ----------
    folder
        Receives ``NAME.safetensors`` and ``NAME.log.parquet`` at the end; holds
        ``NAME.state`` meanwhile.

    Raises
    ------
    MismatchError
        The state on disk belongs to other settings, another width or other images.
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
        torch.manual_seed(settings.seed)
        module = reference_network(name).build(width, len(images.class_names))
        self.module = module.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.module.parameters(),
            lr=settings.peak_learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=True,
        )
        self.steps_per_epoch = len(images) // settings.batch_size
        self.step = 0
        self.elapsed_s = 0.0
        self.log: list[dict[str, float]] = []
        self.identity = {
            **asdict(settings),
            "name": name,
            "width": width,
            "images": images.content_sha256,
        }
        make_folder(folder)
        if self.state_path.exists():
            self._load_state()

    @property
    def state_path(self) -> Path:
        """Where the state between two steps is kept."""
        return self.folder / f"{self.name}.state"

    @property
    def step_count(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.settings.epochs

    def run(self, tell: Callable[[TrainingProgress], None]) -> Path:
        """Train to the end and write the checkpoint, whose path is returned."""
        mean = torch.tensor(CIFAR10_MEAN, device=self.device)
        std = torch.tensor(CIFAR10_STD, device=self.device)
        self.module.train()
        saved_at = started_at = time.monotonic()
        elapsed_before_s, first_step = self.elapsed_s, self.step
        while self.step < self.step_count:
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
        return self._finish()

    def _train_step(self, mean: Tensor, std: Tensor) -> float:
        """One batch, chosen, augmented and learned under the step's own seed."""
        settings, step = self.settings, self.step
        epoch, position = divmod(step, self.steps_per_epoch)
        order = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        start = position * settings.batch_size
        stop = start + settings.batch_size
        rows = torch.randperm(len(self.images), generator=order)[start:stop]
        torch.manual_seed(settings.seed * 1_000_003 + 1_000_000_007 + step)
        generator = torch.Generator().manual_seed(torch.initial_seed() + 1)
        batch = augmented(
            normalized(self.images.images[rows], mean, std, torch.channels_last), generator
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
        state = {
            "identity": self.identity,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "log": self.log,
        }
        with written_beside(self.state_path) as partial:
            torch.save(state, partial)

    def _load_state(self) -> None:
        try:
            state = torch.load(self.state_path, map_location=self.device, weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError) as error:
            raise DataError(
                f"expected the state of a training, found {self.state_path}; "
                "delete that file to begin anew"
            ) from error
        stored = state["identity"]
        differing = [key for key, value in self.identity.items() if stored.get(key) != value]
        if differing:
            raise MismatchError(
                f"the training begun in {self.state_path} has another {', '.join(differing)}; "
                "give the same arguments, or delete that file to begin anew"
            )
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed_s, self.log = state["step"], state["elapsed_s"], state["log"]

    def _finish(self) -> Path:
        path = self.folder / f"{self.name}.safetensors"
        description = NetworkDescription(
            self.name, self.width, len(self.images.class_names), CIFAR10_MEAN, CIFAR10_STD
        )
        weights = {
            name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
            for name, tensor in self.module.state_dict().items()
        }
        save_checkpoint(path, description, weights)
        epochs = pl.DataFrame(self.log).group_by("epoch", maintain_order=True)
        log = epochs.agg(
            loss=pl.col("loss").mean(),
            accuracy=pl.col("correct").sum() / pl.col("images").sum(),
            elapsed_s=pl.col("elapsed_s").max(),
        )
        with written_beside(self.folder / f"{self.name}.log.parquet") as partial:
            log.write_parquet(without_magic(partial))
        self.state_path.unlink(missing_ok=True)
        return path
