"""Normalized batches of images, of a size that suits the network and the cache."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ptqdb.datasets.images import ImageSet, normalize
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.errors import DataError
from ptqdb.networks.copies import scratch_copy
from ptqdb.networks.eager import eager
from ptqdb.quantization.network import QuantizedNetwork

LARGEST_BYTES = 16_000_000
"""The next operation then finds a batch in the cache: with 32 MB MobileNetV2 takes a third longer.
From there on, the C library also allocates new pages for every tensor."""

MOST_IMAGES = 128
"""Larger batches gain nothing, however small the activations."""


def batch_size(module: nn.Module, example: Tensor) -> int:
    """Return the largest batch that keeps every tensor below `LARGEST_BYTES`, at least 1.

    Parameters
    ----------
    example
        One normalized image, (1, channels, height, width), for a pass of a scratch copy.
    """
    largest = example.nbytes

    def look(_: nn.Module, inputs: tuple[object, ...], outputs: object) -> None:
        nonlocal largest
        for tensor in (*inputs, outputs):
            if isinstance(tensor, Tensor):
                largest = max(largest, tensor.nbytes)

    with scratch_copy(module) as scratch, eager(), torch.no_grad():
        for part in scratch.modules():
            part.register_forward_hook(look)
        scratch(example.clone())
    if example.is_cuda:  # its allocator keeps pages, and small batches underuse it
        return MOST_IMAGES
    return max(1, min(MOST_IMAGES, LARGEST_BYTES // largest))


KEPT_BYTES = 64_000_000
"""Normalized images up to this size are kept from pass to pass."""


class Batches:
    """Normalized batches of an image set, from uint8 pixels.

    Few images are normalized once, others at each pass.

    Parameters
    ----------
    mean, std
        Per channel, in units of the full range 0..1.
    size
        Maximum batch size; see `batch_size`. All batches have about equal size: a layer prepares
        its weights for each batch, however small.
    memory_format
        Memory format of the batches.
    order
        The images and their order: int64, (some images,); None: all as they are.

    Raises
    ------
    DataError
        The images have another number of channels.
    """

    def __init__(
        self,
        images: ImageSet,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        *,
        size: int = MOST_IMAGES,
        memory_format: torch.memory_format = torch.contiguous_format,
        order: Tensor | None = None,
    ):
        if images.images.shape[1] != len(mean):
            raise DataError(
                f"expected images of {len(mean)} channels, as many as --mean and --std have, "
                f"found {images.images.shape[1]} in {images.name}"
            )
        self._size, self._memory_format = size, memory_format
        self._order = None if order is None else order.to(device)
        self._pixels = images.images.to(device)
        self._mean = torch.tensor(mean, device=device)
        self._std = torch.tensor(std, device=device)
        self._kept: dict[int, Tensor] = {}
        image_count = len(self._pixels if self._order is None else self._order)
        elements = image_count * self._pixels[:1].numel()
        self._keeps = elements * self._mean.element_size() <= KEPT_BYTES

    def __iter__(self) -> Iterator[Tensor]:
        # Indexed batch by batch: a reordered copy of all images would double their memory.
        rows = self._pixels if self._order is None else self._order
        count = -(-len(rows) // self._size)
        fed = self._mean, self._std, self._memory_format
        for place, part in enumerate(torch.tensor_split(rows, max(1, count))):
            if place in self._kept:
                yield self._kept[place]
                continue
            pixels = part if self._order is None else self._pixels[part]
            batch = normalize(pixels, *fed)
            yield batch
            # a network may write to its input, also where no version counter tells
            if self._keeps and torch.equal(batch, normalize(pixels, *fed)):
                self._kept[place] = batch

    def head(self, count: int = 1) -> Tensor:
        """Return the first images, (count, channels, height, width)."""
        return normalize(self._pixels[:count], self._mean, self._std, self._memory_format)


def network_batches(
    network: QuantizedNetwork,
    images: ImageSet,
    preprocessing: Preprocessing,
    device: torch.device,
    order: Tensor | None = None,
) -> Batches:
    """Return the batches of images for a prepared network, in an order; see `Batches`.

    Raises
    ------
    DataError
        The images have another number of channels.
    """
    fed = preprocessing.mean, preprocessing.std
    form = network.memory_format
    batches = Batches(images, *fed, device, size=1, memory_format=form, order=order)
    if not network.is_batched:
        return batches
    size = batch_size(network.module, batches.head())
    return Batches(images, *fed, device, size=size, memory_format=form, order=order)
