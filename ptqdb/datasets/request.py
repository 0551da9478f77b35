"""What is asked of a reader of images, beside where they are."""

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
        How each picture becomes the network's input size.
    channels
        1 or 3 turns every picture into grayscale or RGB; None leaves a dataset of grayscale
        pictures at 1 channel and makes 3 of any other.
    count
        The first so many images, all by default; fewer there is an error.
    at_most
        The first so many images, or all where there are fewer.
    image_column, label_column
        Columns of a Parquet file or arrays of an ``.npz`` file, where their names are unusual.
    name
        The dataset's name; derived from the source by default.
    labelled
        Whether labels are wanted. Without them none need be there, and those that are there
        are not read.

    Raises
    ------
    UsageError
        Channels other than 1 and 3, both ``count`` and ``at_most``, or a ``label_column`` of
        images without labels.
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
                f"--label-column: expected none of images that are read without labels, found "
                f"{self.label_column!r}"
            )

    def taken(self, available: int, what: str) -> int:
        """How many of the available images are to be read.

        Raises
        ------
        DataError
            More asked for than there are.
        """
        if self.count is not None:
            return checked_count(self.count, available, what)
        return available if self.at_most is None else min(available, self.at_most)
