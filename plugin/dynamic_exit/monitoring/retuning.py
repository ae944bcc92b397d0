"""Thresholds that would have kept agreement with the backbone, from answers of which those of all stages are known."""

from typing import NamedTuple, Self

import numpy as np

from ..chain.thresholds import ALWAYS_EXIT, NEVER_EXIT

# what an answer that is not the backbone's costs, in runs of the backbone: from the safest thresholds to the boldest
_PRICES = np.geomspace(300, 0.3, 40)
# a stage's best threshold depends on the others: so often they take turns
_PASSES = 3


class StageAnswers(NamedTuple):
    """What the K stages in use, and the end of their chain, would answer to samples.

    Attributes:
        confidence: float32 (N, K): of each stage's answer; -1 where it has none, so that no sample leaves there.
        differs: bool (N, K + 1): whether the answer is not the backbone's; the last is that of the end.
    """

    confidence: np.ndarray
    differs: np.ndarray

    @classmethod
    def none(cls, stages: int) -> Self:
        """Return those of no sample."""
        return cls(np.zeros((0, stages), np.float32), np.zeros((0, stages + 1), bool))

    @property
    def samples(self) -> int:
        """Their number."""
        return len(self.differs)

    def joined(self, others: "StageAnswers", kept: int) -> "StageAnswers":
        """Return these and others, of all together the last `kept`."""
        return StageAnswers(*(np.concatenate(each)[-kept:] for each in zip(self, others, strict=True)))

    def exits(self, thresholds: np.ndarray) -> np.ndarray:
        """Return where samples leave, int64 (N,) in 0..K, at thresholds float32 (K,)."""
        leaves = np.column_stack([self.confidence > thresholds, np.ones(self.samples, bool)])
        return leaves.argmax(axis=1)

    def disagrees(self, thresholds: np.ndarray) -> np.ndarray:
        """Return where the answer is not the backbone's, bool (N,), at thresholds float32 (K,)."""
        return self.differs[np.arange(self.samples), self.exits(thresholds)]


def candidate_path(answers: StageAnswers, costs: np.ndarray, allowed: float, count: int) -> list[np.ndarray]:
    """Return thresholds from the safest to the boldest, each cheaper than the one before on these samples.

    Args:
        answers: The samples.
        costs: float64 (K + 1,): of a sample that leaves at each stage in use, or at the end, over the backbone's.
        allowed: The largest share of answers that are not the backbone's, on these samples.
        count: The largest number of candidates.

    Returns:
        float32 (K,) each.
    """
    thresholds = np.full(answers.confidence.shape[1], NEVER_EXIT, np.float32)
    found = []
    for price in _PRICES:
        value = costs + price * answers.differs
        thresholds = _cheapest(answers, value, thresholds)
        found.append(
            (float(answers.disagrees(thresholds).mean()), float(costs[answers.exits(thresholds)].mean()), thresholds)
        )
    path: list[tuple[float, float, np.ndarray]] = []
    for each in sorted(found, key=lambda each: each[:2]):
        if each[0] <= allowed and (not path or each[1] < path[-1][1]):
            path.append(each)
    wanted = np.unique(np.linspace(0, len(path) - 1, min(count, len(path))).round().astype(int))
    return [path[place][2] for place in wanted]


def _cheapest(answers: StageAnswers, value: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return thresholds near given ones at which values, float64 (N, K + 1) by where samples leave, add up to least."""
    thresholds, rows = thresholds.copy(), np.arange(answers.samples)
    for _ in range(_PASSES):
        for stage in range(len(thresholds)):
            thresholds[stage] = NEVER_EXIT
            later = answers.exits(thresholds)  # where each sample would leave if it did not here
            reach = later > stage
            sure = answers.confidence[reach, stage]
            gains = (value[rows, later] - value[:, stage])[reach]
            thresholds[stage] = _best_threshold(sure, gains)
    return thresholds


def _best_threshold(confidence: np.ndarray, gains: np.ndarray) -> float:
    """Return the threshold above which gains add up to the most."""
    order = np.argsort(-confidence, kind="stable")
    sure, total = confidence[order], np.cumsum(gains[order])
    following = np.append(sure[1:], ALWAYS_EXIT)
    # no threshold parts samples that are equally sure
    total = np.where((following < sure) & (sure > ALWAYS_EXIT), total, -np.inf)
    if not len(total) or total.max() <= 0:
        return NEVER_EXIT
    return max(float(following[total.argmax()]), ALWAYS_EXIT)
