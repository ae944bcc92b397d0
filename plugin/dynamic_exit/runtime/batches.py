"""Many samples, some at a time."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Samples = TypeVar("Samples", np.ndarray, Tensor)


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
