"""Fit the thresholds of one chain: moves of one and two thresholds, started from the best on a grid.

With all other stages fixed, the effect of one threshold on correct answers and cost is a cumulative sum over the
samples sorted by confidence; that of two thresholds is a two-dimensional one. Both are exact.
"""

import numpy as np

from .outcomes import ChainOutcomes
from .table import TABLE_CELLS, Table, grid_for, quantile_thresholds, thresholds_between
from .targets import CountTarget, Fit

# for longer chains a table is too coarse to improve on a good start
_MAX_TABLE_STAGES = 4
_MAX_ROUNDS = 8
# each step away from a threshold is so many times as wide as the one before
_STEP_GROWTH = 1.2
# with so few samples all thresholds between them are tried
_MAX_DENSE_SAMPLES = 64
# a move must improve by this share to count
_MIN_IMPROVEMENT = 1e-6


def score(chain: ChainOutcomes, thresholds: np.ndarray) -> Fit:
    """Count correct answers and cost of thresholds.

    Args:
        chain: Outcomes of the chain.
        thresholds: float32 (m,).
    """
    out = first_leaving(chain.confidence > thresholds[:, None])
    correct = np.count_nonzero(chain.correct[out, np.arange(chain.samples)])
    return Fit(thresholds, float(correct), float(np.bincount(out, minlength=len(chain.cost)) @ chain.cost))


def first_leaving(leaves: np.ndarray) -> np.ndarray:
    """Return where each sample exits: the first True of bool (m, n) per column, m if there is none."""
    out = np.full(leaves.shape[1], len(leaves), dtype=np.intp)
    for stage in range(len(leaves) - 1, -1, -1):
        out[leaves[stage]] = stage
    return out


def rough_fits(
    chain: ChainOutcomes, targets: list[CountTarget], start: np.ndarray | None = None, cells: int = TABLE_CELLS
) -> tuple[list[Fit | None], bool]:
    """Fit the thresholds of a chain to targets on a grid.

    Args:
        chain: Outcomes of the chain.
        targets: The targets.
        start: Thresholds that are tried as well, float32 (m,).
        cells: Size of the largest table.

    Returns:
        The best fit per target, the nearest if none meets it, None if there is neither table nor start; and whether
        the grid held all distinct thresholds, so that nothing can be better.
    """
    fits: list[Fit | None] = [None] * len(targets)
    exhaustive = False
    if start is None or len(chain.stages) <= _MAX_TABLE_STAGES:
        grids, exhaustive = grid_for(chain, cells)
        table = Table(chain, grids)
        # where no combination on the grid meets the target, the nearest may still lead there
        fits = [table.fit(target) or table.nearest(target) for target in targets]
    if start is not None:
        tried = score(chain, start)
        for place, target in enumerate(targets):
            now = fits[place]
            if now is None or target.fit_key(tried) < target.fit_key(now):
                fits[place] = tried
    return fits, exhaustive


def polish(chain: ChainOutcomes, target: CountTarget, start: Fit, rounds: int = _MAX_ROUNDS) -> Fit:
    """Move one and two thresholds at a time until no move helps.

    Args:
        chain: Outcomes of the chain, m >= 1 stages.
        target: The target; if ``start`` misses it, moves come nearer to it first.
        start: Where to start.
        rounds: How often every pair is moved, at most.

    Returns:
        Thresholds at least as good.
    """
    best = start
    places = range(len(chain.stages))
    moves: list[tuple[int, int | None]] = [(a, b) for a in places for b in places if a < b] or [(0, None)]
    quiet = 0
    for move in range(rounds * len(moves)):
        moved = _move(chain, target, best, *moves[move % len(moves)])
        now, (value, tie) = target.fit_key(best), target.fit_key(moved)
        better = value < now[0] - _MIN_IMPROVEMENT * abs(now[0]) or (value <= now[0] and tie < now[1])
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


def restart(chain: ChainOutcomes, target: CountTarget, best: Fit, restarts: int, seed: int) -> Fit:
    """Move one threshold far away and polish again, several times.

    Args:
        chain: Outcomes of the chain, m >= 1 stages.
        target: The target.
        best: Thresholds that no move of two improves.
        restarts: How often.
        seed: Decides which threshold moves where.

    Returns:
        Thresholds at least as good.
    """
    random = np.random.default_rng(seed)
    for _ in range(restarts):
        thresholds = best.thresholds.copy()
        stage = random.integers(len(thresholds))
        thresholds[stage] = random.choice(quantile_thresholds(chain.confidence[stage], 16))
        found = polish(chain, target, score(chain, thresholds))
        if target.fit_key(found) < target.fit_key(best):
            best = found
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
    if len(chain.stages) > _MAX_TABLE_STAGES:
        return best
    table = Table(chain, grid_for(chain)[0])
    found = [polish(chain, target, start) for start in table.distant_fits(target, starts)]
    return min([best, *found], key=target.fit_key)


def _move(chain: ChainOutcomes, target: CountTarget, now: Fit, a: int, b: int | None) -> Fit:
    # the best thresholds of stages a and b, all others as they are
    grid_a, grid_b, correct, cost = _counts_near(chain, now, a, b)
    value = target.objective(correct, cost)
    if not np.isfinite(value).any():
        # where all miss the target, come nearer to it
        value = -correct if target.correct is not None else cost
    i, j = np.unravel_index(int(value.argmin()), value.shape)
    thresholds = now.thresholds.copy()
    thresholds[a] = grid_a[i]
    if b is not None and grid_b is not None:
        thresholds[b] = grid_b[j]
    return Fit(thresholds, float(correct[i, j]), float(cost[i, j]))


def _counts_near(
    chain: ChainOutcomes, now: Fit, a: int, b: int | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    # thresholds of a and b (None where no sample comes to b), and correct answers and cost at each pair of them
    leaves = chain.confidence > now.thresholds[:, None]
    reached = np.flatnonzero(~leaves[:a].any(axis=0))
    gone = first_leaving(leaves[:a])
    left = gone < a
    base_correct = float(np.count_nonzero(chain.correct[gone[left], np.flatnonzero(left)]))
    base_cost = float(np.bincount(gone[left], minlength=len(chain.cost)) @ chain.cost)

    grid_a = near_thresholds(chain.confidence[a, reached], now.thresholds[a], dense=b is None)
    bins_a = np.searchsorted(grid_a, chain.confidence[a, reached], side="left")
    size_a = len(grid_a) + 1

    def along_a(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.bincount(bins_a[rows], weights=weights, minlength=size_a)

    # what becomes of the samples that stay at a: between a and b they may exit whatever b does
    until = len(chain.stages) if b is None else b
    between = first_leaving(leaves[a + 1 : until, reached]) + a + 1
    everyone = np.arange(len(reached))
    fixed = everyone if b is None else np.flatnonzero(between != until)
    correct = base_correct + _above(along_a(everyone, chain.correct[a, reached].astype(np.float64)))
    correct = correct + _below(along_a(fixed, chain.correct[between[fixed], reached[fixed]].astype(np.float64)))
    cost = base_cost + chain.cost[a] * _above(along_a(everyone, np.ones(len(reached))))
    cost = cost + _below(along_a(fixed, chain.cost[between[fixed]]))
    correct, cost = correct[:, None], cost[:, None]
    on = np.flatnonzero(between == until) if b is not None else np.empty(0, dtype=np.intp)
    if b is None or not len(on):
        return grid_a, None, correct, cost

    rows = reached[on]
    grid_b = near_thresholds(chain.confidence[b, rows], now.thresholds[b])
    rest = first_leaving(leaves[b + 1 :, rows]) + b + 1
    size_b = len(grid_b) + 1
    flat = bins_a[on] * size_b + np.searchsorted(grid_b, chain.confidence[b, rows], side="left")

    def over_both(weights: np.ndarray) -> np.ndarray:
        return _below(np.bincount(flat, weights=weights, minlength=size_a * size_b).reshape(size_a, size_b))

    correct = correct + _above(over_both(chain.correct[b, rows].astype(np.float64)).T).T
    correct = correct + _below(over_both(chain.correct[rest, rows].astype(np.float64)).T).T
    cost = cost + chain.cost[b] * _above(over_both(np.ones(len(on))).T).T
    cost = cost + _below(over_both(chain.cost[rest]).T).T
    return grid_a, grid_b, correct, cost


def _below(counts: np.ndarray) -> np.ndarray:
    # samples that stay at each threshold, along the first axis
    return np.cumsum(counts, axis=0)[:-1]


def _above(counts: np.ndarray) -> np.ndarray:
    staying = np.cumsum(counts, axis=0)
    return staying[-1:] - staying[:-1]


def near_thresholds(values: np.ndarray, current: np.float32, dense: bool = False) -> np.ndarray:
    """Return thresholds around the current one: every sample near it, ever wider steps further away.

    Args:
        values: float32 (n,); the confidences of the samples that reach the stage.
        current: The threshold in use; it is included.
        dense: Return all distinct thresholds.

    Returns:
        float32, strictly rising.
    """
    ordered = np.sort(values)
    if dense or len(ordered) <= _MAX_DENSE_SAMPLES:
        return np.unique(np.append(thresholds_between(ordered), np.float32(current)))
    middle = np.searchsorted(ordered, current, side="right")
    powers = np.arange(np.ceil(np.log(len(ordered)) / np.log(_STEP_GROWTH)) + 1)
    steps = np.unique(np.round(_STEP_GROWTH**powers))
    places = middle + np.concatenate([-steps[::-1], [0], steps])
    places = places[(places > 0) & (places < len(ordered))].astype(np.int64)
    return np.unique(np.append(thresholds_between(ordered, places), np.float32(current)))
