"""Risks beside accuracy."""

from typing import TYPE_CHECKING

import numpy as np

from .base import Accuracy, Risk

if TYPE_CHECKING:
    from ..records import Records


class Agreement(Accuracy):
    """The share of answers that are not the backbone's own. It needs no labels."""

    needs_labels = False

    @property
    def name(self) -> str:
        """``agreement``."""
        return "agreement"


class TopK(Risk):
    """The share of samples whose true class is not among the k most likely ones.

    Args:
        k: At least 2.
    """

    def __init__(self, k: int = 5) -> None:
        self._k = k

    @property
    def depth(self) -> int:
        """K."""
        return self._k

    @property
    def name(self) -> str:
        """``top_5``, for instance."""
        return f"top_{self._k}"

    def worth(self, truth: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return whether the true class is among the classes."""
        found: np.ndarray = (classes == truth[:, None]).any(axis=1)
        return found


class BalancedAccuracy(Risk):
    """The mean over classes of their shares of wrong answers: every class counts as much, however rare.

    Args:
        weights: float64 (C,); N / (classes that occur * samples of the class), 0 for classes that do not occur; all 1
            before samples are known.
    """

    by_truth = True

    def __init__(self, weights: np.ndarray | None = None) -> None:
        self._weights = weights

    @property
    def name(self) -> str:
        """``balanced_accuracy``."""
        return "balanced_accuracy"

    @property
    def largest(self) -> float:
        """The weight of the rarest class."""
        return 1.0 if self._weights is None else float(self._weights.max())

    @property
    def within_groups(self) -> Risk:
        """Accuracy."""
        return Accuracy()

    def fit(self, records: "Records") -> "BalancedAccuracy":
        """Return the risk with the frequencies of the classes that count as correct."""
        counts = np.bincount(records.truth, minlength=records.classes)
        weights = len(records) / (np.count_nonzero(counts) * np.maximum(counts, 1.0))
        return BalancedAccuracy(np.where(counts > 0, weights, 0.0))

    def worth(self, truth: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the weight of the true class where it is the answer, else 0."""
        if self._weights is None:
            return (classes == truth).astype(np.float64)
        known = truth < len(self._weights)
        weights = np.where(known, self._weights[np.where(known, truth, 0)], 0.0)
        return np.where(classes == truth, weights, 0.0)


class ExpectedLoss(Risk):
    """The mean loss of answers, by true class and answer.

    Args:
        name: Where the losses come from.
        loss: float64 (C, C) in 0..1; row: the true class, column: the answer.
    """

    def __init__(self, name: str, loss: np.ndarray) -> None:
        self._name, self.loss = name, loss

    @property
    def name(self) -> str:
        """Where the losses come from."""
        return self._name

    def worth(self, truth: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return 1 less the loss."""
        worth: np.ndarray = 1.0 - self.loss[truth, classes]
        return worth
