"""Walks through tensors in chunks that stay in the cache, in as many threads as torch uses."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ptqdb.quantization.rounding import in_memory_order

# 192 KiB in float64: the few tensors that a chunk turns into stay in the second-level cache.
CHUNK_SIZE = 3 << 13
GPU_CHUNK_SIZE = 1 << 22
# More would wait for the interpreter, which each call of an operation holds for a moment.
MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def chunk_size(values: Tensor) -> int:
    """How many elements one chunk of such a tensor has at most, where its shape allows."""
    return GPU_CHUNK_SIZE if values.is_cuda else CHUNK_SIZE


def pieces(values: Tensor, size: int = 0) -> tuple[Tensor, ...]:
    """Flat chunks of consecutive elements, in memory order where there is one.

    Parameters
    ----------
    size
        Elements of a piece, where it is to have more than a chunk.
    """
    flat = in_memory_order(values)
    size = max(size, chunk_size(values))
    return torch.split(values.reshape(-1) if flat is None else flat, size)


def grouped(values: Tensor) -> Tensor:
    """A view whose last dimension is that of a softmax: dimension 1, or 0 of a vector."""
    return values.movedim(1, -1) if values.ndim > 1 else values.reshape(1, -1)


def group_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Chunks of whole groups of tensors of one shape, each tuple of them the same elements.

    A group is what a softmax is taken over; see `grouped`.

    Yields
    ------
    tuple[Tensor, ...]
        Views, (..., group size).
    """
    views = [grouped(tensor) for tensor in tensors]
    if all(view.is_contiguous() for view in views):
        views = [view.reshape(-1, view.shape[-1]) for view in views]
    elements_of_row = max(1, views[0][:1].numel())
    step = max(1, chunk_size(tensors[0]) // elements_of_row)
    for start in range(0, len(views[0]), step):
        yield tuple(view[start : start + step] for view in views)


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results in the order of the items, worked out in as many threads as torch uses.

    What is taken as it comes is not held: the results of a large tensor's chunks may be large.

    Each thread takes whole items and is alone at them: a chain of small operations that are
    each split among threads waits for all of them each time, and crawls as soon as another
    process holds a core. Meanwhile torch splits nothing in the calling thread either. The
    results are to the bit those of one thread.

    Parameters
    ----------
    function
        Runs without gradients and must not depend on the order of its calls. It had better put
        out numbers than small tensors: the C library takes those from the gaps that the
        temporary large ones leave, which then no longer fit there.
    """

    def run(item: Item) -> Result:
        with torch.inference_mode():
            return function(item)

    waiting, thread_count = list(items), torch.get_num_threads()
    worker_count = min(thread_count, MOST_THREADS, len(waiting))
    torch.set_num_threads(1)  # of threads that start from now on, too
    try:
        if worker_count <= 1:
            yield from map(run, waiting)
            return
        with ThreadPoolExecutor(worker_count) as pool:
            yield from pool.map(run, waiting)
    finally:
        torch.set_num_threads(thread_count)
