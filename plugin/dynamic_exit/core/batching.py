"""Many samples, some at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Samples = TypeVar("Samples", np.ndarray, Tensor)
Item, Made = TypeVar("Item"), TypeVar("Made")


def batches(arrays: Sequence[Samples], batch_size: int) -> Iterator[tuple[Samples, ...]]:
    """Slice arrays or tensors (N, ...) of equal length side by side, the last slice perhaps shorter.

    Args:
        arrays: At least one.
        batch_size: Samples in a slice, at least 1.

    Returns:
        Slices that share memory with the arrays, in order.
    """
    for start in range(0, len(arrays[0]), batch_size):
        yield tuple(array[start : start + batch_size] for array in arrays)


def named_batches(arrays: Mapping[str, Samples], batch_size: int) -> Iterator[dict[str, Samples]]:
    """Slice named arrays (N, ...) as `batches` does, and keep the names."""
    return (dict(zip(arrays, batch, strict=True)) for batch in batches([*arrays.values()], batch_size))


@torch.no_grad()
def run_in_batches(module: nn.Module, tensors: Sequence[Tensor], batch_size: int = 64) -> Tensor:
    """Run a module over all samples.

    Args:
        module: Takes the tensors and gives one, batch first.
        tensors: Inputs, each (N, ...).
        batch_size: Samples at a time.

    Returns:
        Its output (N, ...), without gradients.
    """
    return torch.cat([module(*batch) for batch in batches(tensors, batch_size)])


def map_in_threads(run: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """Run a function on items in several threads.

    Args:
        run: Safe to be called from several threads once it was called a first time.
        items: What it takes.
        workers: Threads, at least 1; items are taken ahead of what is asked for, two for each.

    Returns:
        What it made, in the order of the items.
    """
    if workers == 1:
        yield from map(run, items)
        return
    rest = iter(items)
    for first in rest:
        yield run(first)
        break
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in rest:
                waiting.append(pool.submit(run, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
