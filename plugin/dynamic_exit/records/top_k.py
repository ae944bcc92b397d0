"""The most probable classes of each sample."""

import numpy as np

from .validation import CHUNK_ROWS


def top_k(probabilities: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the most probable classes and their probabilities.

    Among equal probabilities the lowest class comes first, as with argmax at inference.

    Args:
        probabilities: float32 (N, C).
        k: Number of classes to keep, at least 1; C if there are fewer.

    Returns:
        Classes int32 (N, K) and probabilities float32 (N, K), most probable first.
    """
    k = min(k, probabilities.shape[1])
    classes = np.empty((len(probabilities), k), dtype=np.int32)
    kept = np.empty(classes.shape, dtype=np.float32)
    for start in range(0, len(probabilities), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        # a stable sort of the negated values puts the lowest class first among equals
        order = np.argsort(-probabilities[rows], axis=1, kind="stable")[:, :k]
        classes[rows] = order
        kept[rows] = np.take_along_axis(probabilities[rows], order, axis=1)
    return classes, kept


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
