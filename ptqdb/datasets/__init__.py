"""Images, labelled or not: from Parquet, folders, .npz files and torchvision, into memory.

``read_images`` finds the right reader for whatever ``--dataset`` takes.
"""

from ptqdb.datasets.images import ImageSet, normalized
from ptqdb.datasets.parquet import cut, read_parquet
from ptqdb.datasets.reading import read_images
from ptqdb.datasets.request import ImageRequest

__all__ = ["ImageRequest", "ImageSet", "cut", "normalized", "read_images", "read_parquet"]
