"""Which images a reader should return, and in what form."""

from dataclasses import dataclass

from ptqdb.datasets.images import checked_count
from ptqdb.datasets.preprocessing import Geometry
from ptqdb.errors import UsageError

AS_IT_IS = Geometry()


@dataclass(frozen=True)
class ImageRequest:
    """Which images, and in what form.

    Attributes
    ----------
    geometry
        How each picture is fitted to the network's input size.
    channels
        1 or 3 converts every picture to grayscale or RGB; None keeps 1 channel for a dataset of
        grayscale pictures and gives 3 for any other.
    count
        Read only the first N images, by default all; fewer is an error.
    at_most
        Read the first N images, or all if there are fewer.
    image_column, label_column
        Columns of a Parquet file or arrays of an ``.npz`` file, if their names are unusual.
    name
        The dataset's name; derived from the source by default.
    labelled
        Whether to read labels. If not, they may be absent.

    Raises
    ------
    UsageError
        Channels other than 1 and 3, both ``count`` and ``at_most``, or a ``label_column`` for
        images read without labels.
    """

    geometry: Geometry = AS_IT_IS
    channels: int | None = None
    count: int | None = None
    at_most: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    name: str | None = None
    labelled: bool = True

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise UsageError(f"channels: expected 1 (grayscale) or 3 (RGB), found {self.channels}")
        if self.count is not None and self.at_most is not None:
            raise UsageError("expected count or at_most, found both")
        if self.label_column is not None and not self.labelled:
            raise UsageError(
                f"--label-column: expected none for images read without labels, found "
                f"{self.label_column!r}"
            )

    def taken(self, available: int, what: str) -> int:
        """Return how many of the available images to read.

        Raises
        ------
        DataError
            More are requested than available.
        """
        if self.count is not None:
            return checked_count(self.count, available, what)
        return available if self.at_most is None else min(available, self.at_most)
