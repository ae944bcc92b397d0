"""Exact line search over one position, and coordinate ascent over all of them, for chains without fused evidence.

For a multiplier (correct answers per cost) the best option of one position, which head at which threshold or none, is
the argmax of a cumulative sum over the samples that reach it in the order of their confidence, all other positions
fixed. Positions are swept from the last to the first until nothing changes: coordinate ascent on DyCE's objective
(arXiv 2403.01695). Utilities are integers: their sums are exact, and an order of magnitude faster than those of floats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chain.evidence import RecordedEvidence
from ..records.stage_table import Stages
from .table import quantile_thresholds

# utilities are rounded, so that sweeps may go round in circles
_MAX_SWEEPS = 12
# sums of utilities, and differences of such sums, fit into integers
_MAX_SUM = np.iinfo(np.int64).max / 4

#: Which stage of a group is in use, and the index of its threshold in the grid.
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
        correct = 2.0 ** np.floor(np.log2(_MAX_SUM / samples / (1 + multiplier * most_expensive)))
        return cls(int(correct), multiplier * correct)

    def of(self, cost: np.ndarray | float) -> np.ndarray:
        """Return the utility of costs in backbone runs: int64 of the same shape."""
        return np.rint(self.run * np.asarray(cost)).astype(np.int64)


class PositionSearch:
    """The stages of a group on some samples, sorted by confidence once. H stages, n samples.

    Args:
        recorded: All samples, of which every stage answers alone.
        stages: Indices of the group's stages, of which at most one is in use.
        rows: Selects the samples to search on, a slice or integers (n,).
        count: At most so many thresholds per stage, at least 2; all distinct ones if they are fewer.
        scratch: int64, at least 3 H (n + 1); memory that groups share: allocating it costs more than the sums.
    """

    def __init__(
        self,
        recorded: RecordedEvidence,
        stages: Stages,
        rows: np.ndarray | slice,
        count: int,
        scratch: np.ndarray,
    ) -> None:
        self.stages, records = stages, recorded.records
        self.own = records.own_cost[list(stages)] / records.baseline_cost
        self.prefix = records.prefix_cost[list(stages)] / records.baseline_cost
        answers = [recorded.own_answers(stage, rows) for stage in stages]
        self.confidence = np.stack([sure for _, sure in answers])
        pairs = zip(stages, answers, strict=True)
        self.correct = np.stack([recorded.worth((stage,), classes, rows) for stage, (classes, _) in pairs])
        self.grids = [quantile_thresholds(row, count) for row in self.confidence]
        samples = self.confidence.shape[1]
        # the gain of staying depends on the sample, on whether the stage is correct, and on its prefix alone
        self.prefixes, which = np.unique(self.prefix, return_inverse=True)
        self.table = scratch[: 2 * len(self.prefixes) * samples + 1]
        # per stage: nothing, then its samples from the least sure on; and how many of them stay at each threshold
        self.index = np.full((len(stages), samples + 1), len(self.table) - 1)
        self.staying = np.full((len(stages), max(len(grid) for grid in self.grids)), samples)
        for head, grid in enumerate(self.grids):
            order = np.argsort(self.confidence[head])
            self.index[head, 1:] = order + samples * (2 * which[head] + self.correct[head, order])
            self.staying[head, : len(grid)] = np.searchsorted(self.confidence[head, order], grid, side="right")
            self.staying[head] += head * (samples + 1)
        self.sums = scratch[-self.index.size :].reshape(self.index.shape)

    def best(
        self, value: np.ndarray, paid: np.ndarray | int, reached: np.ndarray, utility: Utility, now: Option
    ) -> Option:
        """Find the best option with all other groups fixed.

        Args:
            value: int64 (n,); utility of each sample that stays, except for what is ``paid``.
            paid: What every sample that stays pays in addition.
            reached: bool (n,); which samples come here.
            utility: Of correct answers and costs.
            now: The option in use; kept unless another is better.

        Returns:
            The best option.
        """
        here = paid - utility.of(self.prefixes)
        staying = self.table[:-1].reshape(len(here), 2, -1)
        np.subtract(value, here[:, None], out=staying[:, 0])
        staying[:, 0] *= reached
        np.subtract(staying[:, 0], utility.correct * reached, out=staying[:, 1])
        self.table[-1] = 0
        np.take(self.table, self.index, out=self.sums, mode="clip")
        np.cumsum(self.sums, axis=1, out=self.sums)
        # gain of each threshold over no stage here, where all samples stay and none pays for it
        gains = self.sums.take(self.staying)
        gains -= gains[:, -1:] + (utility.of(self.own) * np.count_nonzero(reached))[:, None]
        best = max(gains.max(), 0)
        if best == (0 if now == OFF else gains[now]):
            return now
        head, place = divmod(int(gains.argmax()), gains.shape[1])
        return (head, place) if best > 0 else OFF

    def option(self, threshold: np.float32) -> Option:
        """Return the option of the only stage, among all distinct thresholds, at which the same samples exit."""
        return 0, int(np.searchsorted(self.staying[0], np.count_nonzero(self.confidence[0] <= threshold)))

    def leaves(self, option: Option) -> np.ndarray:
        """Return which samples exit with an option, whether they come here or not: bool (n,)."""
        head, place = option
        if option == OFF:
            return np.zeros(self.confidence.shape[1], dtype=bool)
        return self.confidence[head] > self.grids[head][place]


def coordinate_ascent(
    groups: Sequence[PositionSearch],
    final_correct: np.ndarray,
    multiplier: float,
    start: Sequence[Option],
    sweeps: int = _MAX_SWEEPS,
) -> TradeoffPoint:
    """Find options of which no change of a single one helps.

    Args:
        groups: On the same samples.
        final_correct: bool (n,); whether the backbone is correct.
        multiplier: Correct answers that one backbone run is worth.
        start: The option to start with, per group.
        sweeps: How often every group is searched, at most.

    Returns:
        The point at which nothing changes any more.
    """
    utility, options = Utility.at(multiplier, groups, len(final_correct)), list(start)
    leaves = [group.leaves(option) for group, option in zip(groups, options, strict=True)]
    searched: list[list[Option]] = [[] for _ in groups]
    for _ in range(sweeps):
        reached, before = _reached(leaves), list(options)
        # a sample's value from here on is value - paid; the own costs are the same for all that arrive
        value = utility.correct * final_correct - utility.of(1)
        paid: np.ndarray | int = 0
        for g in range(len(groups) - 1, -1, -1):
            group = groups[g]
            if searched[g] != options:
                best = group.best(value, paid, reached[g], utility, options[g])
                if best != options[g]:
                    options[g], leaves[g] = best, group.leaves(best)
                searched[g] = list(options)
            head = options[g][0]
            if head >= 0:
                here = utility.correct * group.correct[head] + (paid - utility.of(group.prefix[head]))
                np.copyto(value, here, where=leaves[g])
                paid = paid + utility.of(group.own[head])
        if options == before:
            break
    return TradeoffPoint(multiplier, tuple(options), *_count(groups, options, leaves, final_correct))


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
