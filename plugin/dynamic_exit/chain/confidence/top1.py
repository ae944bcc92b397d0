"""The largest evidence."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from ..graph_writer import GraphWriter
from .base import ConfidenceRule
from .registry import register_confidence

if TYPE_CHECKING:
    from torch import Tensor

_FEW_CLASSES = 16


@register_confidence("top1")
class LargestEvidence(ConfidenceRule):
    """Take the evidence of the predicted class (maximum softmax probability, arXiv 1610.02136)."""

    def numpy(self, evidence: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return the largest."""
        return evidence.max(axis=axis)

    def judge(self, evidence: np.ndarray, predicted: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return the largest."""
        rows = np.moveaxis(evidence, axis, 0)
        # of few classes, class by class: numpy reduces short rows four times as slowly
        return functools.reduce(np.maximum, rows) if len(rows) <= _FEW_CLASSES else self.numpy(evidence, axis)

    def torch(self, evidence: "Tensor") -> "Tensor":
        """Return the largest."""
        return evidence.amax(dim=1)

    def onnx(self, graph: GraphWriter, evidence: str) -> str:
        """Return the largest."""
        # axis 1, as onnxruntime's reduction over axis -1 returns a wrong shape for zero rows
        return graph.add("ReduceMax", evidence, graph.constant([1], np.int64), keepdims=0)
