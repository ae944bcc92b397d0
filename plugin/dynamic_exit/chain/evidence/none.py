"""Every stage answers alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...records import Records
from .base import ArrayState, EvidenceRule, GraphWriter, TensorState
from .registry import register_evidence

if TYPE_CHECKING:
    from torch import Tensor


@register_evidence("none")
class OwnProbability(EvidenceRule):
    """Take the probabilities of the stage itself (TinySaver, arXiv 2403.17726)."""

    separable = keeps_logits = True

    def numpy(self, state: ArrayState, probabilities: np.ndarray) -> tuple[ArrayState, np.ndarray]:
        """Return the probabilities."""
        return (), probabilities

    def torch(self, state: TensorState, probabilities: "Tensor") -> "tuple[TensorState, Tensor]":
        """Return the probabilities."""
        return (), probabilities

    def onnx(self, graph: GraphWriter, state: str, probabilities: str) -> tuple[str, str]:
        """Return the probabilities."""
        return "", probabilities

    def evaluate(self, records: Records, seen: Sequence[int], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable class of the last stage; among equals the one that argmax of its logits gives."""
        return own_answers(records, seen[-1], rows)


def own_answers(records: Records, stage: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first kept class of a stage, int64 (n,), which is what argmax of its logits gives, and its share."""
    return records.topk_classes[stage, rows, 0].astype(np.int64), records.topk_probabilities[stage, rows, 0]
