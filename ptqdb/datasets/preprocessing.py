"""Preprocessing of a picture for a network: size and normalization."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ptqdb.errors import UsageError

LARGEST_EDGE = 16_384
"""In pixels: one picture of this size takes 768 MiB."""
Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos"]
INTERPOLATIONS = get_args(Interpolation)


@dataclass(frozen=True)
class Geometry:
    """Fits a picture to a network's input size: resize, then crop.

    Attributes
    ----------
    resize
        Length of the shorter edge in pixels, keeping the aspect ratio; None: unchanged.
    crop
        Edge of the centre square in pixels; None: no crop.
    interpolation
        ``bilinear``, ``bicubic``, ``nearest`` or ``lanczos``, as in PIL (antialiased).

    Raises
    ------
    UsageError
        An edge below one pixel or above `LARGEST_EDGE`, or an unknown interpolation.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for option, edge in (("--resize", self.resize), ("--crop", self.crop)):
            if edge is not None and edge < 1:
                raise UsageError(f"{option}: expected at least 1 pixel, found {edge}")
            if edge is not None and edge > LARGEST_EDGE:
                raise UsageError(f"{option}: expected at most {LARGEST_EDGE} pixels, found {edge}")
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(
                f"interpolation: expected any of {', '.join(INTERPOLATIONS)}, "
                f"found {self.interpolation!r}"
            )


@dataclass(frozen=True)
class Preprocessing:
    """Converts pixels to a network's input: ``(x / 255 - mean) / std``, after the geometry.

    Attributes
    ----------
    mean, std
        Per channel, in units of the full range 0..1.

    Raises
    ------
    UsageError
        No channel, unequal numbers of means and standard deviations, a number that is not finite,
        or a standard deviation that is not positive; the message names ``--mean`` or ``--std``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    geometry: Geometry = Geometry()

    def __post_init__(self) -> None:
        if not self.mean:
            raise UsageError("--mean: expected one number per channel, found none")
        if len(self.mean) != len(self.std):
            raise UsageError(
                f"--std: expected as many numbers as --mean has, {len(self.mean)}, "
                f"found {len(self.std)}"
            )
        if not all(map(math.isfinite, self.mean)):
            raise UsageError(f"--mean: expected finite numbers, found {_listed(self.mean)}")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise UsageError(f"--std: expected numbers above 0, found {_listed(self.std)}")

    @property
    def channel_count(self) -> int:
        """Channels of the pictures: 1 for grayscale, 3 for RGB."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and names for JSON; ``from_dict`` reads them."""
        fields = asdict(self)
        return fields | {"mean": list(self.mean), "std": list(self.std)}

    def to_json(self) -> str:
        """Return the JSON that databases store; equal for equal preprocessing."""
        return json.dumps(self.to_dict(), sort_keys=True)


def require_both(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Raise if a mean is given without a standard deviation, or vice versa.

    Raises
    ------
    UsageError
        Only one of them is given.
    """
    if (mean is None) != (std is None):
        found, missing = ("--std", "--mean") if mean is None else ("--mean", "--std")
        raise UsageError(f"--mean and --std: expected both or none, found {found}; add {missing}")


def channel_values(option: str, text: str) -> tuple[float, ...]:
    """Parse comma-separated numbers, one per channel.

    Raises
    ------
    UsageError
        The text is not a list of numbers; the message names the option.

    >>> channel_values("--mean", "0.485,0.456,0.406")
    (0.485, 0.456, 0.406)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option}: expected comma-separated numbers, one per channel, such as "
            f"0.485,0.456,0.406, found {text!r}"
        ) from error


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
