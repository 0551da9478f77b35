"""Images in memory, with or without labels, and their normalization."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ptqdb.errors import DataError
from ptqdb.support.text import is_harmless

_NAMES_IN_A_REMARK = 3


@dataclass(frozen=True)
class ImageSet:
    """One split of a dataset, decoded.

    Attributes
    ----------
    name
        The dataset's name, such as ``cifar10``.
    split
        The split that was read: ``train``, ``test``, a substitute (``validation``), or ``all`` if
        the source has no splits.
    images
        uint8, (N, channels, height, width).
    labels
        int64, (N,), each in ``range(len(class_names))``; None if read without labels: such images
        serve for calibration, not for evaluation. See ``known_labels``.
    class_names
        One name per class, in the order of the labels; empty without labels.
    notes
        Remarks for the user on how the images were read; see ``remarks``.

    Raises
    ------
    DataError
        The name has a control character.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Class names may contain anything: they are never stored, and escaped when shown.
        if not is_harmless(self.name):
            raise DataError(
                f"expected a dataset name without control characters, found {self.name!r}; "
                "rename its folder or give it another name"
            )

    def __len__(self) -> int:
        return len(self.images)

    def known_labels(self) -> Tensor:
        """The labels: int64, (N,).

        Raises
        ------
        DataError
            The images have no labels.
        """
        if self.labels is None:
            raise DataError(
                f"expected labelled images to evaluate or train on, found {self.name} "
                f"{self.split} read without labels; read it with labels, or only calibrate with it"
            )
        return self.labels

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 of the pixels, their shape and any labels: identifies the images."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and a remark if some classes have no image.

        The first images of a source sorted by class may all have the same class.
        """
        if self.labels is None:
            return self.notes
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        missing = [name for name, count in zip(self.class_names, counts, strict=True) if not count]
        if not missing:
            return self.notes
        named = ", ".join(missing[:_NAMES_IN_A_REMARK])
        return (
            *self.notes,
            f"the {len(self)} images of {self.name} {self.split} cover "
            f"{len(counts) - len(missing)} of {len(counts)} classes; missing: {named}"
            + (", ..." if len(missing) > _NAMES_IN_A_REMARK else ""),
        )

    @property
    def has_class_names(self) -> bool:
        """Whether the classes have names, not only the numbers that occur as labels."""
        return self.class_names != tuple(map(str, range(len(self.class_names))))

    def with_class_count(self, count: int) -> "ImageSet":
        """Return the same images with this number of classes, not all of which need to occur.

        Raises
        ------
        DataError
            The number of class names differs, or a label is out of range.
        """
        if count == len(self.class_names):
            return self
        if self.has_class_names or count < len(self.class_names):
            raise DataError(f"{self.name} has {len(self.class_names)} classes, not {count}")
        return replace(self, class_names=tuple(map(str, range(count))))

    def head(self, count: int) -> "ImageSet":
        """Return the first images.

        Raises
        ------
        DataError
            There are fewer images.
        """
        rows = checked_count(count, len(self), f"{self.name} {self.split}")
        labels = None if self.labels is None else self.labels[:rows]
        return replace(self, images=self.images[:rows], labels=labels)


def checked_count(count: int, available: int, what: str) -> int:
    """Return the count, if that many images are available.

    Raises
    ------
    DataError
        There are fewer images, or the count is below 1.
    """
    if not 1 <= count <= available:
        raise DataError(
            f"expected between 1 and {available} images of {what}, found {count} requested"
        )
    return count


def normalize(
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return float32 images ``(x / 255 - mean) / std``.

    Parameters
    ----------
    images
        uint8, (N, channels, height, width).
    mean, std
        float32, (channels,), in units of the full range 0..1.
    """
    scaled = images.to(mean.device).to(torch.float32, memory_format=memory_format)
    return scaled.mul_((1.0 / (255.0 * std))[:, None, None]).sub_((mean / std)[:, None, None])
