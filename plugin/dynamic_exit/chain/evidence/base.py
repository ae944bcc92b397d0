"""What an evidence rule is: how the answers of the stages that ran so far make the answer at the last of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...records import Records, top_k
from ..confidence import ConfidenceRule
from ..graph_writer import GraphWriter

if TYPE_CHECKING:
    from torch import Tensor

# dense evidence of one slice of samples holds at most this many numbers
_DENSE_NUMBERS = 1 << 22

#: What a rule hands on from stage to stage: arrays with one row per sample, empty before the first stage.
ArrayState = tuple[np.ndarray, ...]
TensorState = tuple["Tensor", ...]
#: Classes int64 (n,), and confidences float32 (n,).
Answers = tuple[np.ndarray, np.ndarray]
#: Maps the indices of the stages that ran to the confidence of each sample, and whether the answer is its true class;
#: where records have a posterior, what the answer is worth.
Approximation = Callable[[tuple[int, ...]], tuple[np.ndarray, np.ndarray]]


class EvidenceRule(ABC):
    """Combines the probabilities of the stages of a chain that ran so far.

    The prediction is the class with the largest evidence; a confidence rule says how sure the evidence is. The three
    forms compute the same in float32: `numpy` for records and tests, `torch` for models in memory, `onnx` for files.

    Attributes:
        separable: Whether evidence at a stage is a function of this stage's own answer, whatever ran before it.
        keeps_logits: Whether a model answers with the stage's own logits; else with the logarithm of the evidence.
        classes: How many of a stage's most likely classes it looks at; None for all that are kept.
    """

    separable: ClassVar[bool] = False
    keeps_logits: ClassVar[bool] = False
    classes: ClassVar[int | None] = None

    def with_power(self, power: float) -> "EvidenceRule":
        """Return the rule for a stage of this power; the same where powers do not count."""
        return self

    @abstractmethod
    def numpy(self, state: ArrayState, probabilities: np.ndarray) -> tuple[ArrayState, np.ndarray]:
        """Add one stage.

        Args:
            state: What the stage before returned; empty at the first.
            probabilities: float32 (N, C) in 0..1; a row of NaN where the stage has no answer.

        Returns:
            The new state, and the evidence, float32 (N, C); NaN where there is none.
        """

    @abstractmethod
    def torch(self, state: TensorState, probabilities: "Tensor") -> "tuple[TensorState, Tensor]":
        """Add one stage, as `numpy` does."""

    @abstractmethod
    def onnx(self, graph: GraphWriter, state: str, probabilities: str) -> tuple[str, str]:
        """Write the nodes that add one stage.

        Args:
            graph: Where to write them; constants take no rows, and there may be no rows at all.
            state: Name of a float32 (N, `onnx_width`), zeros where no stage has run so far; empty at the first stage.
            probabilities: Name of a float32 (N, C).

        Returns:
            Names of the new state, empty if the rule has none, and of the evidence.
        """

    def onnx_width(self, classes: int) -> int:
        """Return the number of columns of the state in ONNX, which is one tensor; 0 if there is none."""
        return 0

    def evaluate(self, recorded: "RecordedEvidence", seen: Sequence[int], rows: np.ndarray) -> Answers:
        """Return what some stages answer together on records; classes that a stage did not keep count as 0.

        Args:
            recorded: The records, and how evidence is combined on them.
            seen: Indices of the stages that ran, in chain order.
            rows: int64 (n,); the samples.

        Returns:
            The classes, the lowest among equals, and confidences.
        """
        kept = recorded.records.topk_classes
        classes, confidence = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32)
        width = 1 + max(int(kept[stage].max()) for stage in seen) if len(rows) else 1
        step = max(1, _DENSE_NUMBERS // width)
        for start in range(0, len(rows), step):
            here = slice(start, start + step)
            evidence = self.dense_evidence(recorded, seen, rows[here], width)
            classes[here] = evidence.argmax(axis=1)
            confidence[here] = recorded.confidences[seen[-1]].judge(evidence, classes[here])
        return classes, confidence

    def dense_evidence(
        self, recorded: "RecordedEvidence", seen: Sequence[int], rows: np.ndarray, classes: int
    ) -> np.ndarray:
        """Return the evidence of some stages, float32 (n, classes); a faster override must give the same numbers.

        Args:
            recorded: The records, and how evidence is combined on them.
            seen: Indices of the stages that ran, in chain order, at least one.
            rows: int64 (n,); the samples.
            classes: Above all kept classes of these stages.
        """
        state: ArrayState = ()
        records = recorded.records
        for stage in seen:
            dense = np.zeros((len(rows), classes), dtype=np.float32)
            kept = records.topk_classes[stage, rows].astype(np.int64)
            np.put_along_axis(dense, kept, records.topk_probabilities[stage, rows], axis=1)
            state, evidence = self.with_power(recorded.powers[stage]).numpy(state, dense)
        return evidence

    def search(self, recorded: "RecordedEvidence", seen: tuple[int, ...]) -> Answers:
        """Return the same as `evaluate` for all samples, as fast as the rule allows: the search asks very often."""
        return self.evaluate(recorded, seen, np.arange(len(recorded.records)))

    def approximate(self, recorded: "RecordedEvidence") -> Approximation | None:
        """Return a much faster approximation of `search`, for judging very many chains; None if there is none."""
        return None


class WeighedRule(EvidenceRule):
    """Adds up what stages say about a class, each times its power.

    Attributes:
        power: Of the stage that is added.
    """

    power: np.float32

    @abstractmethod
    def share(self, probabilities: np.ndarray) -> np.ndarray:
        """Return what a stage adds for probabilities float32 of any shape; 0 for a probability of 0."""


@dataclass(frozen=True, eq=False)
class RecordedEvidence:
    """Records, and how evidence is combined on them.

    Attributes:
        records: The records.
        rule: How answers are combined.
        confidences: How sure the result is, one per stage of the records.
        powers: One per stage of the records.
        made: What the rule made of the answers of a stage, to be used again.
    """

    records: Records
    rule: EvidenceRule
    confidences: tuple[ConfidenceRule, ...]
    powers: tuple[float, ...]
    made: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def evaluate(self, seen: Sequence[int], rows: np.ndarray) -> Answers:
        """Return what the stages that ran answer together, as the rule's `evaluate`."""
        return self.rule.evaluate(self, seen, rows)

    def search(self, seen: tuple[int, ...]) -> Answers:
        """Return the same for all samples, as fast as the rule allows."""
        return self.rule.search(self, seen)

    def approximate(self) -> Approximation | None:
        """Return a much faster approximation of `search`; None if the rule has none."""
        return self.rule.approximate(self)

    def ranked(self, seen: Sequence[int], rows: np.ndarray, depth: int) -> np.ndarray:
        """Return the most likely classes of what the stages that ran answer together, int64 (n, depth).

        Among equals the lowest class comes first; there are fewer if there are fewer classes.
        """
        kept = self.records.topk_classes
        if self.rule.separable or len(seen) == 1:
            return kept[seen[-1], rows, :depth].astype(np.int64)
        width = 1 + max(int(kept[stage].max()) for stage in seen)
        step = max(1, _DENSE_NUMBERS // width)
        parts = [np.empty((0, min(depth, width)), dtype=np.int64)]
        for start in range(0, len(rows), step):
            evidence = self.rule.dense_evidence(self, seen, rows[start : start + step], width)
            parts.append(top_k(evidence, min(depth, width))[0].astype(np.int64))
        return np.concatenate(parts)

    def worth(self, seen: Sequence[int], classes: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return what the answers of some stages together are worth to the risk of the records.

        Args:
            seen: Indices of the stages that ran, in chain order.
            classes: int64 (n,); the answers.
            rows: The samples.

        Returns:
            As `Records.worth`.
        """
        depth = self.records.risk.depth
        if depth > 1:
            classes = self.ranked(seen, np.arange(len(self.records))[rows], depth)
        return self.records.worth(classes, rows)

    def own_answers(self, stage: int, rows: np.ndarray | slice) -> Answers:
        """Return the first kept class of a stage, which is what argmax of its logits gives, and its confidence."""
        shares, classes = self.records.topk_probabilities[stage, rows], self.records.topk_classes[stage, rows, 0]
        return classes.astype(np.int64), self.confidences[stage].judge(shares, classes)
