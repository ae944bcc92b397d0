"""Every stage answers alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph_writer import GraphWriter
from .base import Answers, ArrayState, EvidenceRule, RecordedEvidence, TensorState
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

    def evaluate(self, recorded: RecordedEvidence, seen: Sequence[int], rows: np.ndarray) -> Answers:
        """Return the most probable class of the last stage; among equals the one that argmax of its logits gives."""
        return recorded.own_answers(seen[-1], rows)
