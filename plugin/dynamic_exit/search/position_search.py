"""Exact line search over one position, and coordinate ascent over all of them, where no evidence is fused.

For a trade-off (right answers per cost) the best option of one position, which head, which threshold, or none, is the
argmax of a cumulative sum over the samples that reach it in the order of their confidence, all other positions fixed.
Positions are swept from the last to the first until nothing changes: coordinate ascent on DyCE's objective (arXiv
2403.01695). Values are whole numbers: their sums are exact, and an order of magnitude faster than those of floats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import Records
from .table import quantile_thresholds

_SWEEPS = 12
# sums of values stay below this
_LARGEST = 2.0**61

# which of a group's stages is in use, and the place of its threshold on the grid
Option = tuple[int, int]
OFF: Option = (-1, -1)


@dataclass(frozen=True)
class TradeoffPoint:
    """A configuration that is best at some trade-off.

    Attributes:
        trade: Right answers that one backbone run is worth.
        options: One per group.
        right: Right answers on the samples it was searched on.
        cost: On these samples, in backbone runs.
    """

    multiplier: float
    options: tuple[Option, ...]
    correct: float
    cost: float


class PositionSearch:
    """A group's stages on some samples, sorted by confidence once. H stages, n samples.

    Args:
        records: All samples.
        truth: int32 (N,); their classes.
        stages: Places of the group's stages, of which one at most is in use.
        rows: What picks the samples to search on, a slice or integers (n,).
        count: At most so many thresholds per stage, at least 2; all distinct ones if they are fewer.
        scratch: int64, at least 3 H (n + 1); room to compute in, which lines share: new room costs more than sums.
    """

    def __init__(
        self,
        records: Records,
        truth: np.ndarray,
        stages: tuple[int, ...],
        rows: np.ndarray | slice,
        count: int,
        scratch: np.ndarray,
    ) -> None:
        self.stages = stages
        self.own = records.own_cost[list(stages)] / records.baseline_cost
        self.prefix = records.prefix_cost[list(stages)] / records.baseline_cost
        self.confidence = np.stack([records.topk_probabilities[stage, rows, 0] for stage in stages])
        self.correct = np.stack([records.topk_classes[stage, rows, 0] == truth[rows] for stage in stages])
        self.grids = [quantile_thresholds(row, count) for row in self.confidence]
        samples = self.confidence.shape[1]
        # what staying brings depends on the sample, on whether the stage is right, and on its prefix alone
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

    def best(self, value: np.ndarray, paid: int, reached: np.ndarray, worth: "Utility", now: Option) -> Option:
        """Find the best option with all other groups as they are.

        Args:
            value: int64 (n,); what each sample is worth that stays, but for what is ``paid``.
            paid: What every sample that stays pays besides.
            reached: bool (n,); which samples come here.
            worth: Of right answers and costs.
            now: The option in use; it remains unless another is better.

        Returns:
            The best option.
        """
        here = paid - worth.of(self.prefixes)
        staying = self.table[:-1].reshape(len(here), 2, -1)
        np.subtract(value, here[:, None], out=staying[:, 0])
        staying[:, 0] *= reached
        np.subtract(staying[:, 0], worth.correct * reached, out=staying[:, 1])
        self.table[-1] = 0
        np.take(self.table, self.index, out=self.sums, mode="clip")
        np.cumsum(self.sums, axis=1, out=self.sums)
        # what each threshold brings against no stage here, where all stay and none pays for it
        gains = self.sums.take(self.staying)
        gains -= gains[:, -1:] + (worth.of(self.own) * np.count_nonzero(reached))[:, None]
        best = max(gains.max(), 0)
        if best == (0 if now == OFF else gains[now]):
            return now
        head, place = divmod(int(gains.argmax()), gains.shape[1])
        return (head, place) if best > 0 else OFF

    def option(self, threshold: np.float32) -> Option:
        """Return the only stage's option, out of all distinct thresholds, at which the same samples leave."""
        return 0, int(np.searchsorted(self.staying[0], np.count_nonzero(self.confidence[0] <= threshold)))

    def leaves(self, option: Option) -> np.ndarray:
        """Return who leaves with an option, whether reached or not: bool (n,)."""
        head, place = option
        if option == OFF:
            return np.zeros(self.confidence.shape[1], dtype=bool)
        return self.confidence[head] > self.grids[head][place]


@dataclass(frozen=True)
class Utility:
    """What answers and costs are worth at a trade-off, in whole numbers as large as sums over the samples allow.

    Attributes:
        right: Of a right answer.
        run: Of a backbone run.
    """

    correct: int
    run: float

    @classmethod
    def at(cls, multiplier: float, lines: Sequence[PositionSearch], samples: int) -> "Utility":
        """Return it for a trade-off: the right answers that one backbone run is worth."""
        dearest = 1 + sum(line.own.max() for line in lines)
        correct = 2.0 ** np.floor(np.log2(_LARGEST / samples / (1 + multiplier * dearest)))
        return cls(int(correct), multiplier * correct)

    def of(self, cost: np.ndarray | float) -> np.ndarray:
        """Return what costs in backbone runs are worth: int64 of the same shape."""
        return np.rint(self.run * np.asarray(cost)).astype(np.int64)


def coordinate_ascent(
    lines: Sequence[PositionSearch],
    final_correct: np.ndarray,
    multiplier: float,
    start: Sequence[Option],
    sweeps: int = _SWEEPS,
) -> TradeoffPoint:
    """Find options of which no change of one alone helps.

    Args:
        lines: One per group, on the same samples.
        final_right: bool (n,); whether the backbone is right.
        trade: Right answers that one backbone run is worth.
        start: Per group the option to start with.
        sweeps: At most so many looks at every group.

    Returns:
        Where nothing changes any more.
    """
    worth, options = Utility.at(multiplier, lines, len(final_correct)), list(start)
    leaves = [line.leaves(option) for line, option in zip(lines, options, strict=True)]
    looked: list[list[Option]] = [[] for _ in lines]
    for _ in range(sweeps):
        reached, before = _reached(leaves), list(options)
        # a sample's value from here on is value - paid; the own costs are the same for all that arrive
        value, paid = worth.correct * final_correct - worth.of(1), 0
        for g in range(len(lines) - 1, -1, -1):
            line = lines[g]
            if looked[g] != options:
                best = line.best(value, paid, reached[g], worth, options[g])
                if best != options[g]:
                    options[g], leaves[g] = best, line.leaves(best)
                looked[g] = list(options)
            head = options[g][0]
            if head >= 0:
                here = worth.correct * line.correct[head] + (paid - worth.of(line.prefix[head]))
                np.copyto(value, here, where=leaves[g])
                paid += worth.of(line.own[head])
        if options == before:
            break
    return TradeoffPoint(multiplier, tuple(options), *_count(lines, options, leaves, final_correct))


def _reached(leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    # per group the samples that come to it
    reached = [np.ones(len(leaves[0]), dtype=bool)] if leaves else []
    for gone in leaves[:-1]:
        reached.append(reached[-1] & ~gone)
    return reached


def _count(
    lines: Sequence[PositionSearch], options: Sequence[Option], leaves: Sequence[np.ndarray], final_correct: np.ndarray
) -> tuple[float, float]:
    # right answers, and cost in backbone runs
    staying = np.ones(len(final_correct), dtype=bool)
    correct, cost, paid = 0, 0.0, 0.0
    for line, (head, _), gone in zip(lines, options, leaves, strict=True):
        if head >= 0:
            leaving = staying & gone
            paid += line.own[head]
            correct += np.count_nonzero(line.correct[head] & leaving)
            cost += np.count_nonzero(leaving) * (paid + line.prefix[head])
            staying &= ~gone
    correct += np.count_nonzero(final_correct & staying)
    return float(correct), float(cost + np.count_nonzero(staying) * (paid + 1.0))
