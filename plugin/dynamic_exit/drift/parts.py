"""A figure of samples, counted by parts that hold about equally many of them."""

from collections.abc import Sequence

import numpy as np

# parts of about equal size into which samples are counted
_PARTS = 64


def count_parts(values: np.ndarray) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return ascending edges that part values float64 (N,), and how many lie in each part, one more than edges."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _PARTS + 1)[1:-1], method="lower"))
    counts = np.bincount(find_parts(edges, values), minlength=len(edges) + 1)
    return tuple(edges.tolist()), tuple(counts.tolist())


def find_parts(edges: Sequence[float] | np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the part of each value, int64 (n,)."""
    return np.searchsorted(edges, values, side="right")


def check_parts(edges: Sequence[float], counts: Sequence[int]) -> None:
    """Check what is read from a file.

    Raises:
        ValueError: They are no edges and counts of samples.
    """
    ascending = all(a < b for a, b in zip(edges, edges[1:], strict=False))
    if len(counts) != len(edges) + 1 or not ascending or len(counts) > _PARTS:
        raise ValueError("edges and counts of samples do not fit each other")
    if min(counts) < 0 or not sum(counts):
        raise ValueError("counts of samples are no counts")
