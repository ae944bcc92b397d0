"""Tests whether thresholds keep agreement with the backbone, on answers that followed their choice.

Answers so far choose candidates, thresholds in an order from the safest to the boldest; those that follow test them. A
candidate whose answers differ from the backbone's with probability p, where a is allowed, has the capital

    W(n) = product over the n answers that followed the choice of (1 + b (a - d)),    0 < b < 1 / (1 - a),

averaged over bets b that the choice fixes (`BettingTest`), where d is 1 for an answer that differs and else 0. It is
certified once its own capital and those of all safer candidates have ever reached 1 / level.

Theorem. Let every answer that tests a candidate with p >= a differ with a probability of a at least, given all answers
before. Then the probability that a choice ever certifies such a candidate, however long it is tested and whenever one
looks, is at most its level. Proof. Bets are fixed before the answers that they are made on, so that W is a nonnegative
supermartingale that begins at 1, and ever reaches 1 / level with a probability of at most level (Ville). Of several
such candidates the first in the order must reach it, and which one that is was settled before the test: one level
serves all (fixed-sequence testing). Choices whose levels add up to e certify one with a probability of e at most.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..guarantee.betting_test import BettingTest, Losses
from .retuning import StageAnswers


@dataclass
class Choice:
    """Candidates that are tested.

    Attributes:
        thresholds: float32 (M, K): from the safest to the boldest.
        expected: float64 (M,): the shares of answers that differ, on those that chose.
        level: The probability with which a candidate that breaks the promise may be certified.
        planned: About how many answers test it.
        tested: Answers that have tested it.
        differing: int64 (M,): how many of them differ.
        reached: bool (M,): whether the capital has ever reached 1 / level.
    """

    thresholds: np.ndarray
    expected: np.ndarray
    level: float
    planned: int
    tested: int
    differing: np.ndarray
    reached: np.ndarray

    def test(self, answers: StageAnswers, allowed: float) -> None:
        """Take answers that followed the choice."""
        self.tested += answers.samples
        for place, thresholds in enumerate(self.thresholds):
            self.differing[place] += int(answers.disagrees(thresholds).sum())
            losses = Losses.of_counts(self.differing[place], 0, self.tested - self.differing[place])
            bets = BettingTest(allowed, 1 - self.level, self.planned, float(self.expected[place]))
            self.reached[place] |= bets.passes(losses)

    @property
    def certified(self) -> int:
        """How many candidates are certified, from the safest on."""
        return int(np.append(self.reached, False).argmin())

    def to_dict(self) -> dict[str, Any]:
        """Return it as what JSON holds."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, state: dict[str, Any], stages: int) -> "Choice":
        """Return the choice of a state."""
        types = {"thresholds": np.float32, "expected": np.float64, "differing": np.int64, "reached": bool}
        values: dict[str, Any] = {k: np.asarray(v, types[k]) if k in types else v for k, v in state.items()}
        choice = cls(**values)
        count = len(choice.thresholds)
        if choice.thresholds.shape != (count, stages) or any(len(getattr(choice, name)) != count for name in types):
            raise ValueError("its candidates are none")
        return choice
