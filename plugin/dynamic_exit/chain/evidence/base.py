"""What an evidence rule is: how the answers of the stages that ran so far make the answer at the last of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from ...records import Records

if TYPE_CHECKING:
    from torch import Tensor

# dense evidence of one slice of samples holds at most this many numbers
_DENSE_NUMBERS = 1 << 22

#: What a rule hands on from stage to stage: arrays with one row per sample, empty before the first stage.
ArrayState = tuple[np.ndarray, ...]
TensorState = tuple["Tensor", ...]
#: Maps the indices of the stages that ran to the confidence of each sample, and whether the answer is its true class.
Approximation = Callable[[tuple[int, ...]], tuple[np.ndarray, np.ndarray]]


class GraphWriter(Protocol):
    """What writes nodes of an ONNX graph."""

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""

    def constant(self, value: Any, dtype: Any) -> str:
        """Return the name of a constant."""


class EvidenceRule(ABC):
    """Combines the probabilities of the stages of a chain that ran so far.

    The prediction is the class with the largest evidence, the confidence is that evidence; a sample leaves where its
    confidence is above the stage's threshold. The three forms compute the same in float32: `numpy` for records and
    tests, `torch` for models in memory, `onnx` for files.

    Attributes:
        separable: Whether evidence at a stage is a function of this stage's own answer, whatever ran before it.
        keeps_logits: Whether a model answers with the stage's own logits; else with the logarithm of the evidence.
    """

    separable: ClassVar[bool] = False
    keeps_logits: ClassVar[bool] = False

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

    def evaluate(self, records: Records, seen: Sequence[int], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what some stages answer together on records; classes that a stage did not keep count as 0.

        Args:
            records: The records.
            seen: Indices of the stages that ran, in chain order.
            rows: int64 (n,); the samples.

        Returns:
            int64 (n,) classes, the lowest among equals, and float32 (n,) confidences.
        """
        classes, confidence = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32)
        width = 1 + max(int(records.topk_classes[stage].max()) for stage in seen) if len(rows) else 1
        step = max(1, _DENSE_NUMBERS // width)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            evidence = self.dense_evidence(records, seen, part, width)
            best = evidence.argmax(axis=1)
            classes[start : start + step] = best
            confidence[start : start + step] = evidence[np.arange(len(part)), best]
        return classes, confidence

    def dense_evidence(self, records: Records, seen: Sequence[int], rows: np.ndarray, classes: int) -> np.ndarray:
        """Return the evidence of some stages, float32 (n, classes); a faster override must give the same numbers.

        Args:
            records: The records.
            seen: Indices of the stages that ran, in chain order, at least one.
            rows: int64 (n,); the samples.
            classes: Above all kept classes of these stages.
        """
        state: ArrayState = ()
        for stage in seen:
            dense = np.zeros((len(rows), classes), dtype=np.float32)
            kept = records.topk_classes[stage, rows].astype(np.int64)
            np.put_along_axis(dense, kept, records.topk_probabilities[stage, rows], axis=1)
            state, evidence = self.numpy(state, dense)
        return evidence

    def search(self, records: Records, seen: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as `evaluate` for all samples, as fast as the rule allows: the search asks very often."""
        return self.evaluate(records, seen, np.arange(len(records)))

    def approximate(self, records: Records) -> Approximation | None:
        """Return a much faster approximation of `search`, for judging very many chains; None if there is none."""
        return None
