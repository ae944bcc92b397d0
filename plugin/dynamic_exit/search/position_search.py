"""Exact line search over one position, and coordinate ascent over all of them, for chains without fused evidence.

For a multiplier (correct answers per cost) the best option of one position, which head at which threshold or none, is
the argmax of a cumulative sum over the samples that reach it in the order of their confidence, all other positions
fixed. Positions are swept from the last to the first until nothing changes: coordinate ascent on DyCE's objective
(arXiv 2403.01695). Utilities are integers: their sums are exact, and an order of magnitude faster than those of floats.
Samples that leave at the same stage, right or wrong, have the same utility: they carry a small code of it, since
numbers of a byte stay in the processor's cache while they are brought into the order of a stage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records.stage_table import Stages
from .outcomes import SOME_ROWS, OutcomeCache, Ranking
from .table import thresholds_between

# sums of utilities, and differences of such sums, fit into integers
_MAX_SUM = np.iinfo(np.int64).max // 2 // 2

#: Which stage of a group is in use, and how many samples, the least sure ones, stay there.
Option = tuple[int, int]
#: No stage of the group is in use.
OFF: Option = (-1, -1)


@dataclass(frozen=True)
class TradeoffPoint:
    """A configuration that is best at some multiplier.

    Attributes:
        multiplier: Correct answers that one backbone run is worth.
        options: One per group.
        correct: Correct answers on the samples searched.
        cost: Cost on these samples, in backbone runs.
    """

    multiplier: float
    options: tuple[Option, ...]
    correct: float
    cost: float

    def advantage(self, other: "TradeoffPoint") -> float:
        """Return how many correct answers another point is better at this point's multiplier."""
        return (other.correct - self.correct) - self.multiplier * (other.cost - self.cost)


@dataclass(frozen=True)
class Utility:
    """Utility of answers and costs at a multiplier, in integers as large as sums over the samples allow.

    Attributes:
        correct: Of a correct answer.
        run: Of a backbone run.
    """

    correct: int
    run: float

    @classmethod
    def at(cls, multiplier: float, groups: "Sequence[PositionSearch]", samples: int) -> "Utility":
        """Return the utility at a multiplier: the correct answers that one backbone run is worth."""
        most_expensive = 1 + sum(group.own.max() for group in groups)
        correct = 2 ** np.floor(np.log2(_MAX_SUM / samples / (1 + multiplier * most_expensive)))
        return cls(int(correct), multiplier * correct)

    def of(self, cost: np.ndarray | float) -> np.ndarray:
        """Return the utility of costs in backbone runs: int64 of the same shape."""
        return np.rint(self.run * np.asarray(cost)).astype(np.int64)


class PositionSearch:
    """The stages of a group on some samples, sorted by confidence once. H stages, n samples.

    Args:
        outcomes: All samples, of which every stage answers alone.
        stages: Indices of the group's stages, of which at most one is in use.
        rows: Selects the samples to search on, a slice or integers (n,).
        scratch: int64, at least H (n + 1); memory that groups share: allocating it costs more than the sums.
    """

    def __init__(self, outcomes: OutcomeCache, stages: Stages, rows: np.ndarray | slice, scratch: np.ndarray) -> None:
        self.stages, records = stages, outcomes.records
        self.own = records.own_cost[list(stages)] / records.baseline_cost
        self.prefix = records.prefix_cost[list(stages)] / records.baseline_cost
        answers = [outcomes.answer((stage,)) for stage in stages]
        self.confidence = np.stack([sure[rows] for sure, _ in answers])
        self.correct = np.stack([correct[rows] for _, correct in answers])
        samples = self.confidence.shape[1]
        # the gain of staying depends on the fate of a sample, on whether the stage is correct, and on its prefix alone
        self.prefixes, which = np.unique(self.prefix, return_inverse=True)
        # per stage: no sample, then its samples from the least sure on, as places in codes by prefix and correctness
        self.index = np.full((len(stages), samples + 1), samples)
        self.ordered = np.empty_like(self.confidence)
        # where no threshold fits in: between samples of equal confidence
        self.ties: list[np.ndarray] = []
        # stages of a group are compared at so many thresholds
        self.places = np.full((len(stages), 1 + math.isqrt(samples)), samples)
        for head, sure in enumerate(self.confidence):
            ranking = Ranking.of(sure)
            right = self.correct[head, ranking.order]
            self.index[head, 1:] = ranking.order + (samples + 1) * (2 * which[head] + right)
            self.ordered[head] = ranking.confidence
            equal = self.ordered[head, 1:] == self.ordered[head, :-1]
            self.ties.append(1 + np.flatnonzero(equal))
            able = np.concatenate([[0], 1 + np.flatnonzero(~equal), [samples]])
            even = np.round(np.linspace(0, len(able) - 1, self.places.shape[1])).astype(np.int64)
            self.places[head] = able[even] + head * (samples + 1)
        self.sums = scratch[: self.index.size].reshape(self.index.shape)

    def best(self, values: np.ndarray, fates: np.ndarray, reached: np.ndarray, utility: Utility, now: Option) -> Option:
        """Find the best option with all other groups fixed: of the best stage on a grid, the best of all thresholds.

        Args:
            values: int64; the utility of each fate of samples that stay, of none the first.
            fates: Places in ``values`` (n,), of the type of `_code_type`.
            reached: bool (n,); which samples come here.
            utility: Of correct answers and costs.
            now: The option in use; kept unless another is better.

        Returns:
            The best option.
        """
        # what a sample gains by staying: by the stage's prefix and correctness, and by its fate; 0 does not come here
        gains = values + utility.of(self.prefixes)[:, None, None] - utility.correct * np.arange(2)[:, None]
        gains[:, :, 0] = 0
        codes = np.zeros((*gains.shape[:2], len(fates) + 1), dtype=fates.dtype)
        np.multiply(fates, reached, out=codes[0, 0, :-1])
        starts = np.arange(0, gains.size, len(values)).astype(fates.dtype)
        np.add(codes[0, 0], starts.reshape(*gains.shape[:2], 1), out=codes)
        if len(fates) <= SOME_ROWS:
            np.take(gains.take(codes), self.index, out=self.sums, mode="clip")
        else:
            # codes of many samples fit the processor's cache better than gains
            np.take(gains, codes.take(self.index), out=self.sums, mode="clip")
        np.cumsum(self.sums, axis=1, out=self.sums)
        # what each stage must gain over no stage here, where all samples stay and none pays for it
        least = self.sums[:, -1] + utility.of(self.own) * np.count_nonzero(reached)
        gain_now = 0 if now == OFF else self.sums[now] - least[now[0]]
        head = int((self.sums.take(self.places).max(axis=1) - least).argmax())
        sums = self.sums[head]
        sums[self.ties[head]] = -_MAX_SUM
        place = int(sums.argmax())
        gain = sums[place] - least[head]
        if max(gain, 0) <= gain_now:
            return now
        return (head, place) if gain > 0 else OFF

    def option(self, head: int, threshold: np.float32) -> Option:
        """Return the option of a stage at which the same samples exit as at a threshold."""
        return head, int(np.searchsorted(self.ordered[head], threshold, side="right"))

    def threshold(self, option: Option) -> np.float32:
        """Return the threshold of an option that is not `OFF`."""
        head, staying = option
        near = thresholds_between(self.ordered[head, max(staying - 1, 0) : staying + 1])
        # the first is for none that stay, the last for all
        return np.float32(near[min(staying, 1)])

    def leaves(self, option: Option) -> np.ndarray:
        """Return which samples exit with an option, whether they come here or not: bool (n,)."""
        head, staying = option
        if option == OFF or not staying:
            return np.full(self.confidence.shape[1], option != OFF)
        leaves: np.ndarray = self.confidence[head] > self.ordered[head, staying - 1]
        return leaves


def coordinate_ascent(
    groups: Sequence[PositionSearch],
    final_correct: np.ndarray,
    multiplier: float,
    start: Sequence[Option],
    sweeps: int | None = None,
) -> TradeoffPoint:
    """Find options of which no change of a single one helps.

    Args:
        groups: On the same samples.
        final_correct: bool (n,); whether the backbone is correct.
        multiplier: Correct answers that one backbone run is worth.
        start: The option to start with, per group.
        sweeps: How often every group is searched, at most; until nothing changes if None.

    Returns:
        The point at which nothing changes any more.
    """
    utility, options = Utility.at(multiplier, groups, len(final_correct)), list(start)
    leaves = [group.leaves(option) for group, option in zip(groups, options, strict=True)]
    searched: list[list[Option]] = [[] for _ in groups]
    # utilities are rounded, so that sweeps may go round in circles
    seen: set[tuple[Option, ...]] = set()
    while tuple(options) not in seen and len(seen) != sweeps:
        seen.add(tuple(options))
        reached = _reached(leaves)
        # per fate, none and those of the final wrong and right first, its utility without what all pay that stay
        values, paid = [utility.of(0), -utility.of(1), utility.correct - utility.of(1)], utility.of(0)
        fates = np.add(final_correct, 1, dtype=_code_type(groups))
        for g in range(len(groups) - 1, -1, -1):
            group = groups[g]
            if searched[g] != options:
                best = group.best(np.array(values) - paid, fates, reached[g], utility, options[g])
                if best != options[g]:
                    options[g], leaves[g] = best, group.leaves(best)
                searched[g] = list(options)
            head = options[g][0]
            if head >= 0:
                change = np.add(group.correct[head], len(values), dtype=fates.dtype)
                # a masked copy would take three times as long
                change -= fates
                change *= leaves[g]
                fates += change
                wrong = paid - utility.of(group.prefix[head])
                values += [wrong, utility.correct + wrong]
                paid = paid + utility.of(group.own[head])
    return TradeoffPoint(multiplier, tuple(options), *_count(groups, options, leaves, final_correct))


def _code_type(groups: Sequence[PositionSearch]) -> np.dtype:
    # of fates, none and two of each group and of the final, for stages that are wrong or right and have any prefix
    prefixes = max((len(group.prefixes) for group in groups), default=1)
    return np.min_scalar_type(2 * prefixes * (2 * (len(groups) + 1) + 1))


def _reached(leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    # the samples that come to each group
    reached = [np.ones(len(leaves[0]), dtype=bool)] if leaves else []
    for gone in leaves[:-1]:
        reached.append(reached[-1] & ~gone)
    return reached


def _count(
    groups: Sequence[PositionSearch],
    options: Sequence[Option],
    leaves: Sequence[np.ndarray],
    final_correct: np.ndarray,
) -> tuple[float, float]:
    # correct answers, and cost in backbone runs
    staying = np.ones(len(final_correct), dtype=bool)
    correct, cost, paid = 0, 0.0, 0.0
    for group, (head, _), gone in zip(groups, options, leaves, strict=True):
        if head >= 0:
            leaving = staying & gone
            paid += group.own[head]
            correct += int(np.count_nonzero(group.correct[head] & leaving))
            cost += np.count_nonzero(leaving) * (paid + group.prefix[head])
            staying &= ~gone
    correct += int(np.count_nonzero(final_correct & staying))
    return float(correct), float(cost + np.count_nonzero(staying) * (paid + 1.0))
