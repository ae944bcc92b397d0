"""The stages that ran so far answer together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...records import Records
from .base import Approximation, ArrayState, EvidenceRule, GraphWriter, TensorState
from .none import own_answers
from .registry import register_evidence
from .top_k_mean import fused_answers, local_evidence

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

    def evaluate(self, records: Records, seen: Sequence[int], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the class and confidence of the mean; a single stage gives its own answer, ties as in its logits."""
        return own_answers(records, seen[0], rows) if len(seen) == 1 else super().evaluate(records, seen, rows)

    def dense_evidence(self, records: Records, seen: Sequence[int], rows: np.ndarray, classes: int) -> np.ndarray:
        """Return the mean, summed in place: most classes of a sample are kept by no stage."""
        total = np.zeros((len(rows), classes), dtype=np.float32)
        for stage in seen:
            # a stage names a class of a sample once, so no addition is lost
            kept = np.arange(len(rows))[:, None], records.topk_classes[stage, rows]
            total[kept] += records.topk_probabilities[stage, rows]
        total /= np.float32(len(seen))
        return total

    def search(self, records: Records, seen: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as `evaluate` for all samples, from the kept classes alone."""
        return fused_answers(records, seen)

    def approximate(self, records: Records) -> Approximation:
        """Return the mean over the classes that all stages together find most likely, the true one included."""
        dense, others = local_evidence(records)

        def answer(seen: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
            total, other = dense[seen[0]] + dense[seen[1]], others[seen[0]]
            for stage in seen[2:]:
                total += dense[stage]
            for stage in seen[1:]:
                other = np.maximum(other, others[stage])
            best = np.maximum(total.max(axis=0), other)
            return best / np.float32(len(seen)), total[0] >= best

        return answer
