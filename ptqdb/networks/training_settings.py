"""Training settings of the reference networks, and checks before a training starts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ptqdb.datasets.images import ImageSet
from ptqdb.errors import DataError, UsageError
from ptqdb.networks.reference import REFERENCE_IMAGE_SIZE, reference_network


@dataclass(frozen=True)
class TrainingSettings:
    """Training settings: SGD with Nesterov momentum, linear warm-up, cosine decay to zero.

    Attributes
    ----------
    epochs
        Passes over the training images.
    peak_learning_rate
        Reached at the end of the warm-up.
    weight_decay
        On every parameter.
    warmup_epochs
        Limited to a quarter of all epochs.

    Raises
    ------
    UsageError
        A number beyond its bounds.
    """

    epochs: int
    batch_size: int = 128
    peak_learning_rate: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warmup_epochs: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in ALLOWED.items():
            require_within(name, getattr(self, name), low, high)


ALLOWED = {
    "epochs": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "peak_learning_rate": (1e-9, 100.0),
    "weight_decay": (0.0, 1.0),
    "momentum": (1e-9, 1.0),
    "warmup_epochs": (0.0, 100_000.0),
    "seed": (0, 2**31 - 1),
}
NARROWEST, WIDEST = 0.001, 16.0
WARMUP_SHARE = 0.25
"""Largest fraction of a training that is warm-up."""


def require_within(name: str, value: float, low: float, high: float) -> None:
    """Raise if a number is out of range or NaN.

    Raises
    ------
    UsageError
        The message has the bounds.
    """
    if not low <= value <= high:
        raise UsageError(f"expected a {words(name)} from {low:g} to {high:g}, found {value:g}")


def require_width(width: float) -> None:
    """Raise if a factor on the channel counts is out of range.

    Raises
    ------
    UsageError
        The message has the bounds.
    """
    require_within("width", width, NARROWEST, WIDEST)


def words(name: str) -> str:
    """Return the name of a setting for a message."""
    return name.removeprefix("peak_").replace("_", " ").replace("warmup", "warm-up")


SETTINGS = {
    "AlexNet": TrainingSettings(epochs=30, peak_learning_rate=0.04),
    "AlexNet_BN": TrainingSettings(epochs=30),
    "VGG_16": TrainingSettings(epochs=26),
    "VGG_19": TrainingSettings(epochs=20),
    "Inception_BN": TrainingSettings(epochs=8, batch_size=256, peak_learning_rate=0.2),
    "MobileNetV2": TrainingSettings(epochs=100),
    "ResNet_18": TrainingSettings(epochs=60),
    # Deep networks are more likely to diverge in the first epochs at the full rate.
    "ResNet_50": TrainingSettings(epochs=60, warmup_epochs=5.0),
    "ResNet_152": TrainingSettings(epochs=60, warmup_epochs=5.0),
}


def choose_settings(
    names: Sequence[str],
    *,
    width: float = 1.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
) -> dict[str, TrainingSettings]:
    """Return the settings of reference networks by name, with overrides.

    Raises
    ------
    UsageError
        No such network, or a number is out of range.
    """
    require_width(width)
    said = {"epochs": epochs, "batch_size": batch_size, "peak_learning_rate": learning_rate}
    given: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
    return {
        name: replace(SETTINGS[reference_network(name).name], seed=seed, **given)
        for name in dict.fromkeys(names)
    }


def learning_rate(settings: TrainingSettings, step: int, steps_per_epoch: int) -> float:
    """Return the rate of a step: linear from 0 to the peak, then half a cosine to 0."""
    warmup_epochs = min(settings.warmup_epochs, WARMUP_SHARE * settings.epochs)
    warmup = warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.peak_learning_rate * (step + 1) / warmup
    rest = (step - warmup) / (settings.epochs * steps_per_epoch - warmup)
    return settings.peak_learning_rate * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * rest))))


def require_fitting_images(images: ImageSet, settings: TrainingSettings) -> None:
    """Raise if a reference network cannot be trained on these images with these settings.

    Raises
    ------
    DataError
        They have no labels, or the wrong shape for the networks.
    UsageError
        The batch size exceeds their number.
    """
    images.known_labels()
    shape, edge = tuple(images.images.shape[1:]), REFERENCE_IMAGE_SIZE
    if shape != (3, edge, edge):
        raise DataError(
            f"expected images of 3 channels and {edge} x {edge} pixels, which the reference "
            f"networks take, found {shape[0]} and {' x '.join(map(str, shape[1:]))}"
        )
    if settings.batch_size > len(images):
        raise UsageError(
            f"expected a batch size up to the number of training images, {len(images)}, found "
            f"{settings.batch_size}"
        )


def require_memory(name: str, width: float, class_count: int) -> None:
    """Raise if weights, gradients and momentum (float32) of this width exceed the memory.

    Raises
    ------
    UsageError
        The network is too wide; the message gives the memory it needs.
    """
    require_width(width)
    with torch.device("meta"):
        module = reference_network(name).build(width, class_count)
    params = sum(param.numel() for param in module.parameters())
    needed, memory = 3 * 4 * params, _physical_memory()
    if memory is not None and needed > memory:
        raise UsageError(
            f"expected a width that fits into memory: {name} of width {width:g} has "
            f"{params / 1e6:,.0f} million params, which take {needed / 1e9:,.0f} GB in training; "
            f"found {memory / 1e9:,.0f} GB"
        )


def _physical_memory() -> int | None:
    """Physical memory in bytes; None if unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # as on Windows
        return None
