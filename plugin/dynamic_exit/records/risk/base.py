"""What a risk is: how much an answer is worth, given the class that counts as correct."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from ..records import Records


class Risk(ABC):
    """Judges answers. The risk of a model is 1 less the mean worth of its answers.

    Attributes:
        needs_labels: Whether labels say what is correct; else the final's own answer does.
        by_truth: Whether an answer is worth nothing unless it is the true class.
    """

    by_truth: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """What users call it."""

    @property
    def depth(self) -> int:
        """How many of the most likely classes are an answer."""
        return 1

    @property
    def largest(self) -> float:
        """The most that one answer can be worth more than another."""
        return 1.0

    @property
    def within_groups(self) -> "Risk":
        """The risk within one class or group."""
        return self

    @abstractmethod
    def worth(self, truth: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return what answers are worth.

        Args:
            truth: int64 (n,); the class that counts as correct.
            classes: int64 (n,) or, where `depth` is above 1, (n, depth).

        Returns:
            bool (n,), or float64 (n,) >= 0.
        """

    def fit(self, records: "Records") -> "Risk":
        """Return the risk with what it must know of samples, such as how often each class occurs."""
        return self


class Accuracy(Risk):
    """The share of wrong answers."""

    by_truth = True

    @property
    def name(self) -> str:
        """``accuracy``."""
        return "accuracy"

    def worth(self, truth: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return whether the class is the true one."""
        return classes == truth


def probable_worth(risk: Risk, known: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return what answers are worth on average over what the true class may be.

    Args:
        risk: The risk.
        known: int32 (n, L); classes, -1 for none.
        probabilities: float32 (n, L); of these classes.
        classes: As for `Risk.worth`.

    Returns:
        float64 (n,).
    """
    if risk.by_truth:
        # an answer is one of the known classes at most
        chance = np.where(known == classes[:, None], probabilities, 0).sum(axis=1, dtype=np.float64)
        return np.asarray(chance * risk.worth(classes, classes))
    worth = np.zeros(len(known))
    for truth, probability in zip(known.T, probabilities.T, strict=True):
        worth += np.where(truth < 0, 0.0, probability * risk.worth(np.maximum(truth, 0), classes))
    return worth
