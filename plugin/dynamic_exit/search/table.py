"""Goals in counts, and tables of every combination of a chain's thresholds on a grid.

The counts in a table are what the runtime's ``>`` really does, ties in confidence included.
"""

from dataclasses import dataclass

import numpy as np

from .outcomes import ChainOutcomes

# cells of one table: more would not fit the processor's cache
TABLE_CELLS = 1 << 17
_EXACT_CELLS = 1 << 20
_FEWEST_CELLS = 1 << 12
_CELLS_A_SAMPLE = 16
#: Costs within this share of each other are the same up to the order of additions.
SAME = 1e-12


@dataclass(frozen=True)
class CountTarget:
    """A goal in counts over the samples at hand: one of two.

    Attributes:
        right: At least so many right answers, for the least cost.
        cost: At most this total cost, for the most right answers.
    """

    correct: float | None = None
    cost: float | None = None

    def key(self, correct: float, cost: float) -> tuple[float, float]:
        """Return what to minimise, as a pair; infinite where the goal is missed."""
        if self.correct is not None:
            return (cost, -correct) if correct >= self.correct else (np.inf, -correct)
        return (-correct, cost) if cost <= self.cost * (1 + SAME) else (np.inf, cost)


@dataclass(frozen=True)
class Fit:
    """Thresholds of a chain with their counts on the samples they were fitted on.

    Attributes:
        thresholds: float32 (m,).
        right: Right answers.
        cost: Total cost.
    """

    thresholds: np.ndarray
    correct: float
    cost: float


def thresholds_between(values: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """Return thresholds that part sorted confidences.

    Each lies halfway between two distinct neighbours, so that rounding at serving does not move a sample across it.

    Args:
        values: float32 (n,), rising.
        places: integers in 0..n: how many samples shall stay; all if None.

    Returns:
        float32, strictly rising; the first lets every sample leave, the last none.
    """
    steps = np.flatnonzero(values[1:] > values[:-1]) + 1
    if places is not None:
        # a place within a run of equal values moves to the run's end
        found = np.minimum(np.searchsorted(steps, places, side="left"), len(steps) - 1) if len(steps) else []
        steps = steps[np.unique(found)] if len(steps) else steps
    low, high = values[steps - 1], values[steps]
    middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
    # rounding may land on the upper neighbour, which then would not leave
    middle = np.where(middle >= high, low, middle)
    lowest, highest = values[0] if len(values) else 0.0, values[-1] if len(values) else 1.0
    first = np.float32(0.0 if lowest > 0 else -1.0)
    return np.concatenate([[first], middle, [max(np.float32(1.0), highest)]]).astype(np.float32)


def quantile_thresholds(values: np.ndarray, count: int) -> np.ndarray:
    """Return at most ``count`` thresholds that part confidences into even shares.

    Args:
        values: float32 (n,), in any order.
        count: At least 2.

    Returns:
        float32, strictly rising, all distinct cuts if they are few enough.
    """
    ordered = np.sort(values)
    distinct = np.count_nonzero(ordered[1:] > ordered[:-1]) + 1 if len(ordered) else 1
    if distinct + 1 <= count:
        return thresholds_between(ordered)
    places = np.unique(np.round(np.linspace(0, len(ordered), count)[1:-1]).astype(np.int64))
    return thresholds_between(ordered, places)


class Table:
    """Right answers and cost of every combination of thresholds on a grid.

    Args:
        chain: The chain, m >= 0 stages.
        grids: m rising arrays of thresholds.
    """

    def __init__(self, chain: ChainOutcomes, grids: list[np.ndarray]) -> None:
        self.grids = grids
        self.shape = tuple(len(grid) for grid in grids)
        bins = [np.searchsorted(grid, row, side="left") for grid, row in zip(grids, chain.confidence, strict=True)]
        self.correct, self.cost = np.zeros(self.shape), np.zeros(self.shape)
        last = len(grids)
        flat, sizes = np.zeros(chain.samples, dtype=np.int64), []
        for stage in range(last + 1):
            if stage < last:
                flat = flat * (self.shape[stage] + 1) + bins[stage]
                sizes.append(self.shape[stage] + 1)
            cells = int(np.prod(sizes, dtype=np.int64))
            count = np.bincount(flat, minlength=cells).reshape(sizes).astype(np.float64)
            correct = np.bincount(flat[chain.correct[stage]], minlength=cells).reshape(sizes).astype(np.float64)
            spread = (*self.shape[: stage + 1], *[1] * (last - stage - 1))
            self.correct += _summed(correct, stage).reshape(spread)
            self.cost += chain.cost[stage] * _summed(count, stage).reshape(spread)
        self._order = np.argsort(self.cost, axis=None, kind="stable")
        self._best = np.maximum.accumulate(self.correct.ravel()[self._order])

    def fit(self, target: CountTarget) -> Fit | None:
        """Return the best thresholds for a goal, or None if no combination on the grid meets it."""
        if target.correct is not None:
            place = int(np.searchsorted(self._best, target.correct, side="left"))
            if place == len(self._best):
                return None
        else:
            costs = self.cost.ravel()[self._order]
            within = int(np.searchsorted(costs, target.cost * (1 + SAME), side="right"))
            if within == 0:
                return None
            place = int(np.searchsorted(self._best, self._best[within - 1], side="left"))
        return self._at(int(self._order[place]))

    def nearest(self, target: CountTarget) -> Fit | None:
        """Return the thresholds that come nearest to a goal that none meets."""
        return self.fit(CountTarget(cost=np.inf) if target.correct is not None else CountTarget(correct=-np.inf))

    def apart(self, target: CountTarget, count: int) -> list[Fit]:
        """Return good thresholds for a goal that lie apart: the best at each threshold of the last stage.

        Args:
            need: The goal.
            count: How many at most.

        Returns:
            Those better than both neighbours, the best first; none where no combination on the grid meets the goal.
        """
        met = self.correct >= target.correct if target.correct is not None else self.cost <= target.cost * (1 + SAME)
        value = np.where(met, self.cost if target.correct is not None else -self.correct, np.inf)
        rows = value.reshape(-1, self.shape[-1])
        least = np.concatenate([[np.inf], rows.min(axis=0), [np.inf]])
        low = np.flatnonzero((least[1:-1] <= least[:-2]) & (least[1:-1] <= least[2:]) & np.isfinite(least[1:-1]))
        low = low[np.argsort(least[1:-1][low], kind="stable")][:count]
        return [self._at(int(rows[:, place].argmin()) * self.shape[-1] + int(place)) for place in low]

    def _at(self, cell: int) -> Fit:
        where = np.unravel_index(cell, self.shape) if self.shape else ()
        thresholds = np.array([grid[i] for grid, i in zip(self.grids, where, strict=True)], dtype=np.float32)
        return Fit(thresholds, float(self.correct.flat[cell]), float(self.cost.flat[cell]))

    def fits(self, targets: list[CountTarget]) -> list[Fit | None]:
        """Return the best thresholds for each goal."""
        return [self.fit(target) for target in targets]


def _summed(counts: np.ndarray, stage: int) -> np.ndarray:
    # counts[b_0, .., b_stage] by bins; a sample in bin b is above the thresholds 0..b-1, so it stays at k >= b
    for axis in range(counts.ndim):
        staying = np.cumsum(counts, axis=axis)
        if axis == stage:
            staying = np.take(staying, [-1], axis=axis) - staying
        counts = np.take(staying, np.arange(counts.shape[axis] - 1), axis=axis)
    return counts


def grid_for(chain: ChainOutcomes, cells: int = TABLE_CELLS) -> tuple[list[np.ndarray], bool]:
    """Choose thresholds for a table.

    Args:
        chain: The chain.
        cells: The largest table.

    Returns:
        Rising thresholds per stage, and whether they are all the distinct ones, so that nothing is missed.
    """
    stages = max(1, len(chain.stages))
    most = int(_EXACT_CELLS ** (1 / stages))
    every = [thresholds_between(np.sort(row)) for row in chain.confidence] if cells == TABLE_CELLS else []
    if every and all(len(grid) <= most for grid in every):
        return every, True
    # a table finer than the samples fill costs time and fits noise
    count = max(3, int(min(cells, max(_FEWEST_CELLS, _CELLS_A_SAMPLE * chain.samples)) ** (1 / stages)))
    return [quantile_thresholds(row, count) for row in chain.confidence], False
