"""Processes tensors in chunks that fit the cache, in as many threads as torch uses."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from ptqdb.quantization.rounding import in_memory_order

# 512 KiB in float64: with smaller chunks, threads wait for the interpreter's lock.
CHUNK_SIZE = 1 << 16
GPU_CHUNK_SIZE = 1 << 22
# More threads would wait for the interpreter lock, which each operation takes briefly.
MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def chunk_size(values: Tensor) -> int:
    """Maximum number of elements of a chunk of this tensor, if its shape allows."""
    return GPU_CHUNK_SIZE if values.is_cuda else CHUNK_SIZE


def pieces(values: Tensor, size: int = 0) -> tuple[Tensor, ...]:
    """Split a tensor into flat chunks of consecutive elements, in memory order if possible.

    Parameters
    ----------
    size
        Elements per piece, if more than a chunk.
    """
    flat = in_memory_order(values)
    size = max(size, chunk_size(values))
    return torch.split(values.reshape(-1) if flat is None else flat, size)


def group_pieces(values: Tensor) -> Tensor:
    """Return a view with the softmax dimension last: dimension 1, or 0 of a vector."""
    return values.movedim(1, -1) if values.ndim > 1 else values.reshape(1, -1)


def group_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield chunks of whole groups of tensors of one shape, as tuples of matching elements.

    A group is the range of one softmax; see `group_pieces`.

    Yields
    ------
    tuple[Tensor, ...]
        Views, (..., group size).
    """
    views = [group_pieces(tensor) for tensor in tensors]
    if all(view.is_contiguous() for view in views):
        views = [view.reshape(-1, view.shape[-1]) for view in views]
    elements_of_row = max(1, views[0][:1].numel())
    step = max(1, chunk_size(tensors[0]) // elements_of_row)
    for start in range(0, len(views[0]), step):
        yield tuple(view[start : start + step] for view in views)


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results in the order of the items, computed in as many threads as torch uses.

    Results are not kept once yielded: those of a large tensor's chunks may be large.

    Each thread processes whole items alone: small operations that are split among threads
    synchronize each time, and become very slow as soon as another process uses a core. Meanwhile
    torch does not split operations in the calling thread either. The results are bit-identical to
    those of one thread.

    Parameters
    ----------
    function
        Runs without gradients and must not depend on the order of its calls. It should return
        numbers, not small tensors: these fragment the memory freed by large temporaries.
    """

    def run(item: Item) -> Result:
        with torch.inference_mode():
            return function(item)

    waiting, thread_count = list(items), torch.get_num_threads()
    worker_count = min(thread_count, MOST_THREADS)
    torch.set_num_threads(1)  # also for threads started from now on
    try:
        in_turn = worker_count <= 1 or len(waiting) <= 1
        yield from map(run, waiting) if in_turn else _pool(worker_count).map(run, waiting)
    finally:
        torch.set_num_threads(thread_count)


@cache
def _pool(worker_count: int) -> ThreadPoolExecutor:
    """Threads that stay: starting them for each tensor took longer than a small one's sums."""
    return ThreadPoolExecutor(
        worker_count, "ptqdb-chunks", initializer=torch.set_num_threads, initargs=(1,)
    )


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
