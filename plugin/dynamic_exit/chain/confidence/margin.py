"""How far the predicted class is ahead of the next."""

from typing import TYPE_CHECKING

import numpy as np

from ..graph_writer import GraphWriter
from .base import ConfidenceRule
from .registry import register_confidence

if TYPE_CHECKING:
    from torch import Tensor


@register_confidence("margin")
class Margin(ConfidenceRule):
    """Take the largest evidence less the second largest: what the next class would have to gain to be predicted."""

    classes = 2

    def numpy(self, evidence: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return the difference of the two largest."""
        best, second = two_largest(evidence, axis)
        return best - second

    def torch(self, evidence: "Tensor") -> "Tensor":
        """Return the difference of the two largest."""
        if evidence.shape[1] == 1:
            return evidence[:, 0]
        best = evidence.topk(2, dim=1).values
        return best[:, 0] - best[:, 1]

    def onnx(self, graph: GraphWriter, evidence: str) -> str:
        """Return the difference of the two largest."""
        best, _ = graph.add_pair("TopK", evidence, graph.constant([2], np.int64), axis=1)
        return graph.add("MatMul", best, graph.constant([1, -1], np.float32))


def two_largest(evidence: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and the second largest along an axis, float32 (N,) each; the second of a single one is 0."""
    rows = np.moveaxis(evidence, axis, 0)
    if len(rows) == 1:
        return rows[0].copy(), np.zeros_like(rows[0])
    best, second = np.maximum(rows[0], rows[1]), np.minimum(rows[0], rows[1])
    for row in rows[2:]:
        second = np.maximum(second, np.minimum(best, row))
        best = np.maximum(best, row)
    return best, second
