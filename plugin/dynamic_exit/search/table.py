"""Tables of all combinations of thresholds of a chain on a grid.

The counts in a table are exactly those of the runtime's ``>``, ties in confidence included.
"""

import math

import numpy as np

from .outcomes import ChainOutcomes
from .targets import CountTarget, Fit

#: Cells of one table; more would not fit the processor's cache
MAX_CELLS = 1 << 17
# a table that is finer than the samples fill costs time and fits noise
_CELLS_PER_SAMPLE = 4


def distinct(ordered: np.ndarray) -> np.ndarray:
    """Return the distinct values of a sorted array: what `np.unique` does, without sorting again."""
    keep = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=keep[1:])
    return ordered[keep]


def thresholds_between(values: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """Return thresholds that separate sorted confidences.

    Each lies halfway between two distinct neighbors, so that rounding at inference does not move a sample across it.

    Args:
        values: float32 (n,), rising.
        places: rising integers in 1..n - 1: how many samples shall stay; all if None.

    Returns:
        float32, strictly rising; at the first all samples exit, at the last none.
    """
    if places is None:
        steps = np.flatnonzero(values[1:] > values[:-1]) + 1
    else:
        # a place within a run of equal values moves to the end of the run, or to the start of the last run
        ends = np.searchsorted(values, values[places - 1], side="right")
        last = np.searchsorted(values, values[-1])
        steps = distinct(np.minimum(ends, last)) if last else ends[:0]
    low, high = values[steps - 1], values[steps]
    found = np.empty(len(steps) + 2, dtype=np.float32)
    found[1:-1] = np.add(low, high, dtype=np.float64) / 2
    # rounding may land on the upper neighbor, which then would not exit
    np.copyto(found[1:-1], low, where=found[1:-1] >= high)
    lowest, highest = (values[0], values[-1]) if len(values) else (0.0, 1.0)
    found[0], found[-1] = 0.0 if lowest > 0 else -1.0, max(1.0, highest)
    return found


class Table:
    """Correct answers and cost of all combinations of thresholds on a grid.

    Args:
        chain: Outcomes of the chain, m >= 0 stages.
        grids: m rising arrays of thresholds.
    """

    def __init__(self, chain: ChainOutcomes, grids: list[np.ndarray]) -> None:
        self.grids = grids
        self.shape = tuple(len(grid) for grid in grids)
        self.correct, self.cost = np.zeros(self.shape), np.zeros(self.shape)
        last = len(grids)
        flat, sizes = np.zeros(chain.samples, dtype=np.int64), []
        for stage in range(last + 1):
            if stage < last:
                flat = flat * (self.shape[stage] + 1) + chain.bins(stage, grids[stage])
                sizes.append(self.shape[stage] + 1)
            cells = int(np.prod(sizes, dtype=np.int64))
            # one pass adds up both: complex numbers are added part by part
            both = np.empty(cells, dtype=np.complex128)
            both.real, both.imag = np.bincount(flat, chain.correct[stage], cells), np.bincount(flat, minlength=cells)
            both = _summed(both.reshape(sizes), stage)
            both = both.reshape((*self.shape[: stage + 1], *[1] * (last - stage - 1)))
            self.correct += both.real
            self.cost += chain.cost[stage] * both.imag

    def fit(self, target: CountTarget) -> Fit | None:
        """Return the best thresholds for a target, or None if no combination on the grid meets it."""
        if target.correct is not None:
            meets = self.correct >= target.correct
        else:
            meets = self.cost <= target.cost_limit
            meets &= self.correct == self.correct.max(initial=-np.inf, where=meets)
        # of the best ones the cheapest, the first if there are several
        place = int(np.where(meets, self.cost, np.inf).argmin())
        return self._at(place) if meets.flat[place] else None

    def nearest(self, target: CountTarget) -> Fit:
        """Return the thresholds that come nearest to a target that none meets."""
        found = self.fit(CountTarget(cost=np.inf) if target.correct is not None else CountTarget(correct=-np.inf))
        assert found is not None, "every combination meets a target that asks for nothing"
        return found

    def distant_fits(self, target: CountTarget, count: int) -> list[Fit]:
        """Return good thresholds that lie apart: the best ones at some thresholds of the last stage.

        Args:
            target: The target.
            count: How many at most.

        Returns:
            Those better than both neighbors, the best first; those nearest to the target if no combination on the grid
            meets it.
        """
        value = target.objective(self.correct, self.cost)
        if not np.isfinite(value).any():
            value = target.shortfall(self.correct, self.cost)
        rows = value.reshape(-1, self.shape[-1])
        least = np.concatenate([[np.inf], rows.min(axis=0), [np.inf]])
        low = np.flatnonzero((least[1:-1] <= least[:-2]) & (least[1:-1] <= least[2:]) & np.isfinite(least[1:-1]))
        low = low[np.argsort(least[1:-1][low], kind="stable")][:count]
        return [self._at(int(rows[:, place].argmin()) * self.shape[-1] + int(place)) for place in low]

    def _at(self, cell: int) -> Fit:
        where = np.unravel_index(cell, self.shape) if self.shape else ()
        thresholds = np.array([grid[i] for grid, i in zip(self.grids, where, strict=True)], dtype=np.float32)
        return Fit(thresholds, float(self.correct.flat[cell]), float(self.cost.flat[cell]))


def _summed(counts: np.ndarray, stage: int) -> np.ndarray:
    # counts[b_0, .., b_stage] by bins; a sample in bin b is above the thresholds 0..b-1, so it stays at k >= b
    for axis in range(counts.ndim):
        staying = np.cumsum(counts, axis=axis)
        counts = staying[(*[slice(None)] * axis, slice(-1))]
    return counts if counts.ndim == stage else staying[..., -1:] - counts


def most_cells(samples: int, stages: int) -> int:
    """Return how many cells the table of a chain has at most, for so many samples and stages."""
    every = (samples + 1) ** stages
    return every if every <= MAX_CELLS else min(MAX_CELLS, _CELLS_PER_SAMPLE * samples)


def grid_for(chain: ChainOutcomes, finest: bool = False) -> tuple[list[np.ndarray] | None, bool]:
    """Choose thresholds for a table: all where they are few, else as many of each stage.

    Args:
        chain: Outcomes of the chain.
        finest: Whether the table may be finer than the samples fill, for the few chains that are searched further.

    Returns:
        Rising thresholds per stage, None if they would be fewer than the stages, which says little; and whether they
        are all the distinct ones, so that nothing is missed.
    """
    ordered = [chain.ranking(place).confidence for place in range(len(chain.stages))]
    # a threshold between two distinct confidences, below the first and above the last
    distinct_ones = [2 + int(np.count_nonzero(row[1:] > row[:-1])) for row in ordered]
    if math.prod(distinct_ones) <= MAX_CELLS:
        return [thresholds_between(row) for row in ordered], True
    cells = min(MAX_CELLS, _CELLS_PER_SAMPLE * chain.samples)
    if finest:
        # adding up a table takes a pass over its cells for each stage
        cells = max(cells, MAX_CELLS // len(ordered))
    count = int(cells ** (1 / len(ordered)))
    if count < len(ordered):
        return None, False
    even = np.round(np.linspace(0, chain.samples, count)[1:-1]).astype(np.int64)
    pairs = zip(ordered, distinct_ones, strict=True)
    return [thresholds_between(row, None if few <= count else even) for row, few in pairs], False
