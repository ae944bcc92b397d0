"""What a confidence rule is: one number that says how sure evidence is."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..graph_writer import GraphWriter
from .gate import Gate

if TYPE_CHECKING:
    from torch import Tensor


class ConfidenceRule(ABC):
    """Says how sure evidence is, in 0..1; a sample leaves where it is surer than the stage's threshold.

    The three forms compute the same in float32: `numpy` for records and tests, `torch` for models in memory, `onnx` for
    files.

    Attributes:
        classes: How many of the most likely classes it looks at; records must keep as many.
        by_class: Whether it looks at which class is predicted.
    """

    classes: ClassVar[int] = 1
    by_class: ClassVar[bool] = False

    def with_gate(self, gate: Gate) -> "ConfidenceRule":
        """Return the rule for a stage of this gate; the same where nothing is learned."""
        return self

    @abstractmethod
    def numpy(self, evidence: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return the confidence.

        Args:
            evidence: float32 (N, C), or (C, N) for axis 0; in 0..1, NaN where there is none.
            axis: That of the classes.

        Returns:
            float32 (N,); NaN where there is no evidence.
        """

    def judge(self, evidence: np.ndarray, predicted: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return the confidence where evidence of the likely classes alone is at hand.

        Args:
            evidence: As of `numpy`, of some classes in any order.
            predicted: int64 (N,); the class with the largest evidence.
            axis: As of `numpy`.
        """
        return self.numpy(evidence, axis)

    @abstractmethod
    def torch(self, evidence: "Tensor") -> "Tensor":
        """Return the confidence (N,) of evidence (N, C)."""

    @abstractmethod
    def onnx(self, graph: GraphWriter, evidence: str) -> str:
        """Write the nodes that compute it; return the name of a float32 (N,). There may be no rows at all."""
