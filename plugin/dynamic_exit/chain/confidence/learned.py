"""How likely it is that a sample which leaves here loses nothing, by a small model of each stage."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..graph_writer import GraphWriter
from .base import ConfidenceRule
from .gate import Gate
from .margin import two_largest
from .registry import register_confidence

if TYPE_CHECKING:
    from torch import Tensor

# keeps log-odds finite; smaller differences of evidence from 0 or 1 say nothing
_LEAST = 1e-3


@register_confidence("learned")
class LearnedConfidence(ConfidenceRule):
    """Foretell whether the answer is right wherever the final's is: a logistic regression, one for each stage.

    It looks at the two largest evidences and at the predicted class, see `Gate`; its parameters are learned from
    records, see `learning`.

    Args:
        gate: Of the stage; that of the largest evidence if None.
    """

    classes = 2
    by_class = True

    def __init__(self, gate: Gate | None = None) -> None:
        gate = gate or Gate()
        # one more for every class that has none
        self.offsets = np.array([*gate.offsets, 0.0], dtype=np.float32) + np.float32(gate.constant)
        self.weights = np.array([gate.largest, gate.second], dtype=np.float32)
        self.margin = np.float32(gate.margin)

    def with_gate(self, gate: Gate) -> "LearnedConfidence":
        """Return the rule for a stage of this gate."""
        return _with_gate(type(self), gate)

    def numpy(self, evidence: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return the probability that leaving loses nothing."""
        return self.judge(evidence, evidence.argmax(axis=axis), axis)

    def judge(self, evidence: np.ndarray, predicted: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return the same where the predicted classes are known."""
        largest, second = two_largest(evidence, axis)
        score = self.weights[0] * log_odds(largest) + self.weights[1] * log_odds(second)
        score += self.margin * (largest - second) + self.offsets[np.minimum(predicted, len(self.offsets) - 1)]
        with np.errstate(over="ignore"):
            chance: np.ndarray = 1 / (1 + np.exp(-score))
        return chance

    def torch(self, evidence: "Tensor") -> "Tensor":
        """Return the probability that leaving loses nothing."""
        best = evidence.topk(2, dim=1).values
        odds = ((best + _LEAST) / (1 + _LEAST - best)).log()
        offsets = evidence.new_tensor(self.offsets)
        offset = offsets[evidence.argmax(dim=1).clamp(max=len(self.offsets) - 1)]
        score: Tensor = (
            odds @ evidence.new_tensor(self.weights) + self.margin.item() * (best[:, 0] - best[:, 1]) + offset
        )
        return score.sigmoid()

    def onnx(self, graph: GraphWriter, evidence: str) -> str:
        """Return the probability that leaving loses nothing."""
        best, classes = graph.add_pair("TopK", evidence, graph.constant([2], np.int64), axis=1)
        least = graph.constant(_LEAST, np.float32)
        rest = graph.add("Sub", graph.constant(1 + _LEAST, np.float32), best)
        odds = graph.add("Log", graph.add("Div", graph.add("Add", best, least), rest))
        score = graph.add("MatMul", odds, graph.constant(self.weights, np.float32))
        apart = graph.add("MatMul", best, graph.constant([self.margin, -self.margin], np.float32))
        score = graph.add("Add", score, apart)
        first = graph.add("Gather", classes, graph.constant(0, np.int64), axis=1)
        known = graph.add("Min", first, graph.constant(len(self.offsets) - 1, np.int64))
        offset = graph.add("Gather", graph.constant(self.offsets, np.float32), known)
        return graph.add("Sigmoid", graph.add("Add", score, offset))


def log_odds(evidence: np.ndarray) -> np.ndarray:
    """Return the logarithm of evidence in 0..1 over what is left, float32, finite also at 0 and 1."""
    odds: np.ndarray = np.log((evidence + np.float32(_LEAST)) / (np.float32(1 + _LEAST) - evidence))
    return odds


@lru_cache(256)
def _with_gate(rule: type[LearnedConfidence], gate: Gate) -> LearnedConfidence:
    return rule(gate)
