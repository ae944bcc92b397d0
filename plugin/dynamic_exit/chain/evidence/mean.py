"""The stages that ran so far answer together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph_writer import GraphWriter
from .base import Answers, Approximation, ArrayState, EvidenceRule, RecordedEvidence, TensorState
from .kept_classes import Shares, approximate_sums, summed_answers
from .registry import register_evidence

if TYPE_CHECKING:
    from torch import Tensor


@register_evidence("mean")
class MeanProbability(EvidenceRule):
    """Average the probabilities of all stages so far (Wisdom of Committees, arXiv 2012.01988).

    Probabilities are summed in chain order in float32; a stage that gives NaN for a row is left out for that row. The
    state is the sum, and the number of stages in it.
    """

    def numpy(self, state: ArrayState, probabilities: np.ndarray) -> tuple[ArrayState, np.ndarray]:
        """Return the mean over the stages that know the row."""
        known = ~np.isnan(probabilities.sum(axis=1, keepdims=True))
        total = probabilities if known.all() else np.where(known, probabilities, np.float32(0))
        count = known.astype(np.float32)
        if state:
            total, count = state[0] + total, state[1] + count
        with np.errstate(invalid="ignore"):
            return (total, count), total / count

    def torch(self, state: TensorState, probabilities: "Tensor") -> "tuple[TensorState, Tensor]":
        """Return the mean over the stages that know the row."""
        known = ~probabilities.isnan().any(dim=1, keepdim=True)
        total, count = probabilities.masked_fill(~known, 0), known.float()
        if state:
            total, count = state[0] + total, state[1] + count
        return (total, count), total / count

    def onnx(self, graph: GraphWriter, state: str, probabilities: str) -> tuple[str, str]:
        """Return the mean over the stages that know the row; the state is the sum alone, as it tells their number."""
        # the softmax of a row with a NaN is all NaN
        unknown = graph.add("IsNaN", probabilities)
        total = graph.add("Where", unknown, graph.constant(0, np.float32), probabilities)
        if not state:
            return total, probabilities
        total = graph.add("Add", state, total)
        # the probabilities of a stage sum to 1, so their rounded total is the number of stages
        count = graph.add("ReduceSum", total, graph.constant([1], np.int64), keepdims=1)
        return total, graph.add("Div", total, graph.add("Round", count))

    def onnx_width(self, classes: int) -> int:
        """Return the number of classes: the state is the sum alone."""
        return classes

    def evaluate(self, recorded: RecordedEvidence, seen: Sequence[int], rows: np.ndarray) -> Answers:
        """Return the class and confidence of the mean; a single stage gives its own answer, ties as in its logits."""
        return recorded.own_answers(seen[0], rows) if len(seen) == 1 else super().evaluate(recorded, seen, rows)

    def dense_evidence(
        self, recorded: RecordedEvidence, seen: Sequence[int], rows: np.ndarray, classes: int
    ) -> np.ndarray:
        """Return the mean, summed in place: most classes of a sample are kept by no stage."""
        records, total = recorded.records, np.zeros((len(rows), classes), dtype=np.float32)
        for stage in seen:
            # a stage names a class of a sample once, so no addition is lost
            kept = np.arange(len(rows))[:, None], records.topk_classes[stage, rows]
            total[kept] += records.topk_probabilities[stage, rows]
        return _mean(total, len(seen))

    def search(self, recorded: RecordedEvidence, seen: tuple[int, ...]) -> Answers:
        """Return the same as `evaluate` for all samples, from the kept classes alone."""
        if len(seen) == 1:
            return recorded.own_answers(seen[0], slice(None))
        return summed_answers(recorded, _probabilities(recorded), _mean, seen)

    def approximate(self, recorded: RecordedEvidence) -> Approximation:
        """Return the mean over the classes that all stages together find most likely, the true one included."""
        return approximate_sums(recorded, _probabilities(recorded), _mean)


def _probabilities(recorded: RecordedEvidence) -> Shares:
    return lambda stage, rows: recorded.records.topk_probabilities[stage, rows]


def _mean(total: np.ndarray, stages: int) -> np.ndarray:
    return total / np.float32(stages)
