"""Samples in batches, and work in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from .memory_pages import release_pages

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Samples = TypeVar("Samples", "np.ndarray", "Tensor")
Item = TypeVar("Item")
Result = TypeVar("Result")

#: Samples in one call where neither the user nor the memory decides. Other sizes change the last bits of sums.
DEFAULT_BATCH_SIZE = 64


def batches(arrays: Sequence[Samples], batch_size: int) -> Iterator[tuple[Samples, ...]]:
    """Yield batches of arrays or tensors (N, ...) of equal length; the last one may be shorter.

    Args:
        arrays: At least one.
        batch_size: Samples in a batch, at least 1.

    Yields:
        Slices of all arrays, which share their memory, in order.
    """
    for start in range(0, len(arrays[0]), batch_size):
        yield tuple(array[start : start + batch_size] for array in arrays)
        release_pages()


def named_batches(arrays: Mapping[str, Samples], batch_size: int) -> Iterator[dict[str, Samples]]:
    """Yield batches of named arrays (N, ...), as `batches` does, by name."""
    values: Sequence[Samples] = list(arrays.values())
    for batch in batches(values, batch_size):
        yield dict(zip(arrays, batch, strict=True))


def run_in_batches(module: "nn.Module", tensors: "Sequence[Tensor]", batch_size: int = DEFAULT_BATCH_SIZE) -> "Tensor":
    """Run a module over all samples.

    Args:
        module: Maps the tensors to one, batch first.
        tensors: Inputs, each (N, ...).
        batch_size: Samples at a time.

    Returns:
        Its output (N, ...), without gradients.
    """
    import torch  # not at the top: the command line's options need the batch size alone

    with torch.no_grad():
        return torch.cat([module(*batch) for batch in batches(tensors, batch_size)])


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Call a function on items in several threads.

    Args:
        function: Must be thread-safe after its first call, which runs alone.
        items: Its arguments; they are consumed at most two per worker ahead of the results.
        workers: Number of threads, at least 1.

    Yields:
        The results, in the order of the items.
    """
    if workers == 1:
        yield from map(function, items)
        return
    rest = iter(items)
    for first in rest:
        yield function(first)
        break
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in rest:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
