"""Goals in counts over the samples at hand, and thresholds fitted to them."""

from dataclasses import dataclass

import numpy as np

from ..points.goal import Goal
from .outcomes import OutcomeCache

#: Counts and costs within this share of each other are equal up to rounding: a drop of half a point of 2,000 samples is
#: 10 samples, not 9.999..., and the order in which costs are added up does not matter.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Fit:
    """Thresholds of a chain with their counts on the samples they were fitted to.

    Attributes:
        thresholds: float32 (m,).
        correct: Number of correct answers.
        cost: Total cost.
    """

    thresholds: np.ndarray
    correct: float
    cost: float


@dataclass(frozen=True)
class CountTarget:
    """A goal in counts: exactly one of two. Of another risk than accuracy, what counts is what answers are worth.

    Attributes:
        correct: At least so many correct answers, at the least cost.
        cost: At most this total cost, with the most correct answers.
    """

    correct: float | None = None
    cost: float | None = None

    @property
    def cost_limit(self) -> float:
        """The largest total cost that meets the target, with room for rounding; infinite where cost is minimized."""
        return np.inf if self.cost is None else self.cost * (1 + ROUNDING)

    def key(self, correct: float, cost: float) -> tuple[float, float]:
        """Return what to minimize, as a pair; the first is infinite where the target is missed."""
        if self.correct is not None:
            return (cost, -correct) if correct >= self.correct else (np.inf, -correct)
        return (-correct, cost) if cost <= self.cost_limit else (np.inf, cost)

    def fit_key(self, fit: Fit) -> tuple[float, float]:
        """Return the key of a fit."""
        return self.key(fit.correct, fit.cost)

    def objective(self, correct: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Return what to minimize, per element; infinite where the target is missed."""
        if self.correct is not None:
            return np.where(correct >= self.correct, cost, np.inf)
        return np.where(cost <= self.cost_limit, -correct, np.inf)

    def shortfall(self, correct: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Return what to minimize, per element, where all miss the target: it falls as they come nearer."""
        return -correct if self.correct is not None else cost


def count_target(outcomes: OutcomeCache, goal: Goal) -> CountTarget:
    """Return a goal in counts over the samples of some outcomes."""
    samples = len(outcomes.records)
    if goal.budget is not None:
        return CountTarget(cost=goal.budget * outcomes.records.baseline_cost * samples)
    least = outcomes.baseline_correct - goal.allowed_drop * samples
    if outcomes.is_counted:
        return CountTarget(correct=float(np.ceil(least - ROUNDING)))
    return CountTarget(correct=float(least - ROUNDING * samples))
