"""Fit the thresholds of one chain: moves of one and two thresholds, started from the best on a grid.

With all other stages fixed, the effect of one threshold on correct answers and cost is a cumulative sum over the
samples sorted by confidence; that of two thresholds is a two-dimensional one. Both are exact.
"""

import functools
import itertools
import math

import numpy as np

from ..chain.thresholds import NEVER_EXIT
from .outcomes import ChainOutcomes
from .table import Table, grid_for, thresholds_between
from .targets import ROUNDING, CountTarget, Fit

# each step away from a threshold is so many times as wide as the one before
_STEP_GROWTH = 1.2


def score(chain: ChainOutcomes, thresholds: np.ndarray) -> Fit:
    """Count correct answers and cost of thresholds.

    Args:
        chain: Outcomes of the chain.
        thresholds: float32 (m,).
    """
    out = first_leaving(chain.confidence > thresholds[:, None])
    correct = chain.correct[out, np.arange(chain.samples)].sum()
    return Fit(thresholds, float(correct), float(np.bincount(out, minlength=len(chain.cost)) @ chain.cost))


def first_leaving(leaves: np.ndarray) -> np.ndarray:
    """Return where each sample exits: the first True of bool (m, n) per column, m if there is none."""
    out = np.full(leaves.shape[1], len(leaves), dtype=np.intp)
    for stage in range(len(leaves) - 1, -1, -1):
        out[leaves[stage]] = stage
    return out


def rough_fits(
    chain: ChainOutcomes, targets: list[CountTarget], start: np.ndarray | None = None
) -> tuple[list[Fit], bool]:
    """Fit the thresholds of a chain to targets on a grid.

    Args:
        chain: Outcomes of the chain.
        targets: The targets.
        start: Thresholds that are tried as well, float32 (m,).

    Returns:
        The best fit per target, the nearest if none meets it; and whether the grid held all distinct thresholds, so
        that nothing can be better.
    """
    grids, exhaustive = grid_for(chain)
    known = [] if start is None else [score(chain, start)]
    if grids is None:
        alone = score(chain, np.full(len(chain.stages), NEVER_EXIT, dtype=np.float32))
        return [min([*known, alone], key=target.fit_key) for target in targets], exhaustive
    table = Table(chain, grids)
    # where no combination on the grid meets the target, the nearest may still lead there
    fits = [[*known, table.fit(target) or table.nearest(target)] for target in targets]
    return [min(each, key=target.fit_key) for each, target in zip(fits, targets, strict=True)], exhaustive


def polish(chain: ChainOutcomes, target: CountTarget, start: Fit) -> Fit:
    """Move one and two thresholds at a time until no move helps.

    Args:
        chain: Outcomes of the chain, m >= 1 stages.
        target: The target; if ``start`` misses it, moves come nearer to it first.
        start: Where to start.

    Returns:
        Thresholds at least as good.
    """
    best = start
    places = range(len(chain.stages))
    moves: list[tuple[int, int | None]] = [(a, b) for a in places for b in places if a < b] or [(0, None)]
    quiet = 0
    for move in itertools.cycle(moves):
        moved = _move(chain, target, best, *move)
        now, (value, tie) = target.fit_key(best), target.fit_key(moved)
        better = value < now[0] - ROUNDING * abs(now[0]) or (value <= now[0] and tie < now[1])
        quiet = 0 if better else quiet + 1
        best = moved if better else best
        if quiet >= len(moves):
            break
    return best


def relax(chain: ChainOutcomes, target: CountTarget, start: Fit) -> Fit:
    """Move the thresholds of neighboring stages, two at a time, once from the last to the first.

    Args:
        chain: Outcomes of the chain, m >= 1 stages.
        target: The target; a little less accurate, or cheaper, than ``start``.
        start: Where to start.

    Returns:
        Thresholds at least as good.
    """
    moves: list[tuple[int, int | None]] = [(a, a + 1) for a in range(len(chain.stages) - 2, -1, -1)]
    best = start
    for a, b in moves or [(0, None)]:
        best = min(best, _move(chain, target, best, a, b), key=target.fit_key)
    return best


def spread(chain: ChainOutcomes, target: CountTarget, best: Fit, starts: int) -> Fit:
    """Polish from thresholds that lie apart on a grid: on noisy samples the best one may be next to a worse region.

    Args:
        chain: Outcomes of the chain, m >= 1 stages.
        target: The target.
        best: Thresholds that no move of two improves.
        starts: How many starts at most.

    Returns:
        Thresholds at least as good; the same for chains that are too long for a fine grid.
    """
    distant: list[Fit] = []
    for finest in (False, True):
        grids, _ = grid_for(chain, finest)
        # on a finer grid more of the best lie side by side, so it serves where the usual one has few
        if grids is not None and len(distant) < starts:
            distant += Table(chain, grids).distant_fits(target, starts)
    found = [polish(chain, target, start) for start in distant]
    return min([best, *found], key=target.fit_key)


def _move(chain: ChainOutcomes, target: CountTarget, now: Fit, a: int, b: int | None) -> Fit:
    # the best thresholds of stages a and b, all others as they are
    key = target, a, b, now.thresholds.tobytes()
    if key not in chain.moves:
        grid_a, grid_b, correct, cost = _counts_near(chain, now, a, b)
        value = target.objective(correct, cost)
        best = int(value.argmin())
        if not np.isfinite(value.flat[best]):
            # where all miss the target, come nearer to it
            best = int(target.shortfall(correct, cost).argmin())
        i, j = np.unravel_index(best, value.shape)
        thresholds = now.thresholds.copy()
        thresholds[a] = grid_a[i]
        if b is not None and grid_b is not None:
            thresholds[b] = grid_b[j]
        chain.moves[key] = thresholds, float(correct[i, j]), float(cost[i, j])
    return Fit(*chain.moves[key])


def _counts_near(
    chain: ChainOutcomes, now: Fit, a: int, b: int | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    # thresholds of a and b (None where no sample comes to b), and correct answers and cost at each pair of them
    leaves = chain.confidence > now.thresholds[:, None]
    gone = first_leaving(leaves[:a])
    reached, left = np.flatnonzero(gone == a), np.flatnonzero(gone < a)
    base_correct = chain.correct[gone[left], left].sum()
    base_cost = float(np.bincount(gone[left], minlength=len(chain.cost)) @ chain.cost)
    grid_a = _near_thresholds(chain.confidence[a, reached], now.thresholds[a], dense=b is None)
    bins_a = chain.bins(a, grid_a)[reached]
    size_a = len(grid_a) + 1

    def along_a(rows: np.ndarray | slice, weights: np.ndarray | None = None) -> np.ndarray:
        return np.cumsum(np.bincount(bins_a[rows], weights, minlength=size_a))

    # what becomes of the samples that stay at a: between a and b they may exit whatever b does
    until = len(chain.stages) if b is None else b
    between = first_leaving(leaves[a + 1 : until].take(reached, axis=1)) + a + 1
    fixed = slice(None) if b is None else np.flatnonzero(between != until)
    staying, correct_staying = along_a(slice(None)), along_a(slice(None), chain.correct[a, reached])
    correct = base_correct + correct_staying[-1] - correct_staying[:-1]
    correct += along_a(fixed, chain.correct[between[fixed], reached[fixed]])[:-1]
    # costs are not exact: the order in which they are added up is part of the result
    cost = base_cost + chain.cost[a] * (staying[-1] - staying[:-1]) + along_a(fixed, chain.cost[between[fixed]])[:-1]
    on = np.flatnonzero(between == until)
    if b is None or not len(on):
        return grid_a, None, correct[:, None], cost[:, None]

    rows = reached[on]
    grid_b = _near_thresholds(chain.confidence[b, rows], now.thresholds[b])
    shape = size_a, len(grid_b) + 1
    cells = shape[0] * shape[1]
    flat = bins_a[on] * shape[1] + chain.bins(b, grid_b)[rows]

    rest, correct_b = first_leaving(leaves[b + 1 :].take(rows, axis=1)) + b + 1, chain.correct[b, rows]
    # of the samples that stay at each pair; the last column is of all that stay at a
    staying = _over_both(np.bincount(flat, minlength=cells).reshape(shape))
    # one pass adds up both: complex numbers are added part by part
    both = np.empty(shape, dtype=np.complex128)
    gained = np.subtract(chain.correct[rest, rows], correct_b, dtype=np.float64)
    both.real = np.bincount(flat, gained, cells).reshape(shape)
    both.imag = np.bincount(flat, chain.cost[rest], cells).reshape(shape)
    both = _over_both(both)[:, :-1]
    correct = (correct + along_a(on, correct_b)[:-1])[:, None] + both.real
    cost = cost[:, None] + chain.cost[b] * (staying[:, -1:] - staying[:, :-1]) + both.imag
    return grid_a, grid_b, correct, cost


def _over_both(counts: np.ndarray) -> np.ndarray:
    # of counts by bins of a and b, those of the samples that are in these bins or lower ones
    return np.cumsum(np.cumsum(counts, axis=0)[:-1], axis=1)


def _near_thresholds(values: np.ndarray, current: np.float32, dense: bool = False) -> np.ndarray:
    # rising: the current one, every sample near it, ever wider steps further away; all distinct ones if dense
    ordered, places = np.sort(values), None
    steps = _steps(math.ceil(math.log(max(len(ordered), 1), _STEP_GROWTH)))
    if not dense and len(ordered) > len(steps):
        places = ordered.searchsorted(current, side="right") + steps
        places = places[(places > 0) & (places < len(ordered))]
    between = thresholds_between(ordered, places)
    place = between.searchsorted(current)
    if place < len(between) and between[place] == current:
        return between
    return np.concatenate([between[:place], [current], between[place:]], dtype=np.float32)


@functools.cache
def _steps(count: int) -> np.ndarray:
    # rising: 0, and steps to both sides of which each is so many times as wide as the one before
    steps = np.unique(np.round(_STEP_GROWTH ** np.arange(count + 1.0))).astype(np.int64)
    return np.concatenate([-steps[::-1], [0], steps])
