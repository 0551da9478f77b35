"""The points that a curve is fitted to, with further columns that some curves need."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptqdb.errors import DataError

Floats = NDArray[np.float64]

_MEANINGS = {
    "chance_loss": "the loss of a network that guesses",
    "float_accuracy": "the float network's accuracy",
    "images": "the number of images evaluated",
    "network": "the network of each point",
    "weight": "how much each point counts in held-out figures",
}


@dataclass(frozen=True, eq=False)
class Places:
    """Where a curve is evaluated.

    Attributes
    ----------
    x
        Shape (values,).
    chance_loss
        Of the networks at `x`, shape (values,) or one for all; only curves with
        ``uses_chance_loss`` need it.
    """

    x: Floats
    chance_loss: Floats | float | None = None

    @classmethod
    def of(cls, x: ArrayLike, chance_loss: ArrayLike | None = None) -> "Places":
        """Places from whatever converts to float64; `x` of any shape becomes (values,)."""
        chance = None if chance_loss is None else np.asarray(chance_loss, dtype=np.float64)
        return cls(np.asarray(x, dtype=np.float64).ravel(), chance)


@dataclass(frozen=True, eq=False)
class Points:
    """Points (x, y) and further columns; every array has shape (points,).

    Attributes
    ----------
    x, y
        float64, finite.
    chance_loss
        The y of a network that guesses: (float accuracy - 1 / classes) / float accuracy.
    float_accuracy, images
        Accuracy of the float network as a fraction, and the number of images evaluated. With y, the
        relative loss, they give the count of correct images.
    network
        Names: points of one network are not independent.
    weight
        Positive: how much each point counts in held-out figures; None: all alike. Fits ignore it.
    """

    x: Floats
    y: Floats
    chance_loss: Floats | None = None
    float_accuracy: Floats | None = None
    images: Floats | None = None
    network: NDArray[np.str_] | None = None
    weight: Floats | None = None

    @property
    def weights(self) -> Floats:
        """The weight of each point; 1 where all count alike."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def places(self) -> Places:
        """Where the points are."""
        return Places(self.x, self.chance_loss)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The further columns, by name."""
        beside = {name: getattr(self, name) for name in _MEANINGS}
        return {name: values for name, values in beside.items() if values is not None}

    @property
    def network_count(self) -> int:
        """Number of networks; 1 if unknown."""
        return 1 if self.network is None else len(np.unique(self.network))

    def take(self, places: NDArray[Any]) -> "Points":
        """The points at these indices, or where a mask of shape (points,) is true."""
        beside = {name: values[places] for name, values in self.columns.items()}
        return Points(self.x[places], self.y[places], **beside)

    def read_only_copy(self) -> "Points":
        """A read-only copy of the points."""
        copied = replace(self, x=self.x.copy(), y=self.y.copy())
        copied = replace(copied, **{name: v.copy() for name, v in self.columns.items()})
        for values in (copied.x, copied.y, *copied.columns.values()):
            values.setflags(write=False)
        return copied

    def of_networks(self, names: NDArray[np.str_]) -> "Points":
        """The points of these networks, in order; a repeated name counts as a network of its own.

        Parameters
        ----------
        names
            Shape (draws,), each among `network`, as a bootstrap over networks draws them.
        """
        assert self.network is not None
        places = [np.flatnonzero(self.network == name) for name in names]
        labels = np.repeat([f"{i}" for i in range(len(names))], [len(found) for found in places])
        return replace(self.take(np.concatenate(places)), network=labels)

    def require(self, needed: tuple[str, ...]) -> None:
        """Raise if a column that a curve needs is missing.

        Raises
        ------
        DataError
            A column is missing; the message names the first.
        """
        for name in needed:
            if getattr(self, name) is None:
                raise DataError(
                    f"expected {name}, {_MEANINGS[name]}, besides x and y, found none; "
                    "fit a view of a database, or choose another curve"
                )


def checked_points(
    x: ArrayLike, y: ArrayLike, least_count: int, columns: dict[str, ArrayLike] | None = None
) -> Points:
    """Return the points as flat float64 arrays, if a curve can be fitted to them.

    Parameters
    ----------
    x, y
        Shape (points,) or (points, 1).
    least_count
        The fewest points that the curve can be fitted to.
    columns
        Further columns of `Points`.

    Raises
    ------
    DataError
        `x`, `y` and the columns differ in length; a value is missing or infinite; there are too
        few points; x, or y, is the same everywhere.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.size != y.size or y.ndim > 2 or max(x.shape, default=1) != x.size:
        raise DataError(
            f"expected one x per y, found shapes {x.shape} and {y.shape}; pass two columns"
        )
    beside = _beside(columns or {}, y.size)
    numbers = [x.ravel(), y.ravel(), *(v for v in beside.values() if v.dtype == np.float64)]
    bad = int(np.sum(~np.all(np.isfinite(np.stack(numbers)), axis=0)))
    if bad:
        raise DataError(
            f"expected finite x and y, found {bad} of {y.size} points missing or infinite; "
            "leave those points out"
        )
    if y.size < least_count:
        raise DataError(
            f"expected at least {least_count} points, found {y.size}; "
            "add points or choose a curve with fewer parameters"
        )
    for name, values in (("x", x), ("y", y)):
        if values.min() == values.max():
            raise DataError(
                f"expected {name} to vary, found {name} = {float(values.flat[0]):g} at all "
                f"{y.size} points; no curve can be fitted to them"
            )
    return Points(x.ravel(), y.ravel(), **beside)


def _beside(columns: dict[str, ArrayLike], count: int) -> dict[str, Any]:
    found: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        if name not in _MEANINGS:
            raise DataError(f"expected a column of {', '.join(_MEANINGS)}, found {name}")
        found[name] = np.asarray(values, dtype=np.str_ if name == "network" else np.float64).ravel()
        if found[name].size != count:
            raise DataError(f"expected {count} values of {name}, found {found[name].size}")
    return found
