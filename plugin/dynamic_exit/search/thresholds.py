"""Thresholds of one chain: moves of one and two thresholds from the best on a grid.

With all other stages fixed, what a change of one threshold does to right answers and cost is a cumulative sum over the
samples sorted by confidence; two thresholds together need a two-dimensional one. Both are exact.
"""

import numpy as np

from .outcomes import ChainOutcomes
from .table import SAME, TABLE_CELLS, CountTarget, Fit, Table, grid_for, quantile_thresholds, thresholds_between

# beyond so many stages a table is too coarse to improve on a good start
_TABLE_STAGES = 4
_ROUNDS = 8
# each step away from a threshold is so many times as wide as the one before
_WIDER = 1.2
# a move must improve by this share to count
_WORTH = 1e-6


def score(chain: ChainOutcomes, thresholds: np.ndarray) -> Fit:
    """Count right answers and cost of thresholds on a chain.

    Args:
        chain: The chain.
        thresholds: float32 (m,).

    Returns:
        The counts.
    """
    out = first_leaving(chain.confidence > thresholds[:, None])
    correct = np.count_nonzero(chain.correct[out, np.arange(chain.samples)])
    return Fit(thresholds, float(correct), float(np.bincount(out, minlength=len(chain.cost)) @ chain.cost))


def first_leaving(leaves: np.ndarray) -> np.ndarray:
    """Return where each sample leaves: the first True of bool (m, n) per column, m where there is none."""
    out = np.full(leaves.shape[1], len(leaves), dtype=np.intp)
    for stage in range(len(leaves) - 1, -1, -1):
        out[leaves[stage]] = stage
    return out


def rough_fits(
    chain: ChainOutcomes, targets: list[CountTarget], start: np.ndarray | None = None, cells: int = TABLE_CELLS
) -> tuple[list[Fit | None], bool]:
    """Fit a chain's thresholds to goals on a grid of thresholds.

    Args:
        chain: The chain.
        needs: The goals.
        start: Thresholds that are tried as well, float32 (m,).
        cells: The largest table.

    Returns:
        The best per goal, the nearest where none meets it, None where there is neither table nor start; and whether
        the grid held every distinct threshold, so that nothing can be better.
    """
    fits: list[Fit | None] = [None] * len(targets)
    exhaustive = False
    if start is None or len(chain.stages) <= _TABLE_STAGES:
        grids, exhaustive = grid_for(chain, cells)
        table = Table(chain, grids)
        # where no combination on the grid meets the goal, the nearest may still lead there
        fits = [table.fit(target) or table.nearest(target) for target in targets]
    if start is not None:
        tried = score(chain, start)
        for place, target in enumerate(targets):
            key = target.key(tried.correct, tried.cost)
            now = fits[place]
            if now is None or key < target.key(now.correct, now.cost):
                fits[place] = tried
    return fits, exhaustive


def polish(chain: ChainOutcomes, target: CountTarget, start: Fit, rounds: int = _ROUNDS) -> Fit:
    """Move one and two thresholds at a time until no move helps.

    Args:
        chain: The chain, m >= 1 stages.
        need: The goal; where ``start`` misses it, moves come nearer to it first.
        start: Where to start.
        rounds: At most so many times every pair.

    Returns:
        Thresholds at least as good.
    """
    best = start
    places = range(len(chain.stages))
    moves = [(a, b) for a in places for b in places if a < b] or [(0, None)]
    quiet = 0
    for move in range(rounds * len(moves)):
        a, b = moves[move % len(moves)]
        moved = _move(chain, target, best, a, b)
        now = target.key(best.correct, best.cost)
        value, tie = target.key(moved.correct, moved.cost)
        better = value < now[0] - _WORTH * abs(now[0]) or (value <= now[0] and tie < now[1])
        quiet = 0 if better else quiet + 1
        best = moved if better else best
        if quiet >= len(moves):
            break
    return best


def relax(chain: ChainOutcomes, target: CountTarget, start: Fit) -> Fit:
    """Move the thresholds of neighbours, two at a time, once from the last to the first.

    Args:
        chain: The chain, m >= 1 stages.
        need: The goal; a little less accurate, or cheaper, than ``start`` is.
        start: Where to start.

    Returns:
        Thresholds at least as good.
    """
    moves = [(a, a + 1) for a in range(len(chain.stages) - 2, -1, -1)] or [(0, None)]
    best = start
    for a, b in moves:
        moved = _move(chain, target, best, a, b)
        best = min(best, moved, key=lambda fit: target.key(fit.correct, fit.cost))
    return best


def restart(chain: ChainOutcomes, target: CountTarget, best: Fit, restarts: int, seed: int) -> Fit:
    """Move one threshold far away and polish again, some times.

    Args:
        chain: The chain, m >= 1 stages.
        need: The goal.
        best: Thresholds that no move of two improves.
        restarts: How many times.
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
        if target.key(found.correct, found.cost) < target.key(best.correct, best.cost):
            best = found
    return best


def spread(chain: ChainOutcomes, target: CountTarget, best: Fit, starts: int) -> Fit:
    """Polish from thresholds that lie apart on a grid: on noisy samples the best on it may stand beside a better place.

    Args:
        chain: The chain, m >= 1 stages.
        need: The goal.
        best: Thresholds that no move of two improves.
        starts: At most so many.

    Returns:
        Thresholds at least as good; the same for chains too long for a fine grid.
    """
    if len(chain.stages) > _TABLE_STAGES:
        return best
    found = [polish(chain, target, start) for start in Table(chain, grid_for(chain)[0]).apart(target, starts)]
    return min([best, *found], key=lambda fit: target.key(fit.correct, fit.cost))


def _move(chain: ChainOutcomes, target: CountTarget, now: Fit, a: int, b: int | None) -> Fit:
    # the best thresholds of stages a and b, all others as they are
    leaves = chain.confidence > now.thresholds[:, None]
    reached = np.flatnonzero(~leaves[:a].any(axis=0))
    gone = first_leaving(leaves[:a])
    left = gone < a
    base_correct = float(np.count_nonzero(chain.correct[gone[left], np.flatnonzero(left)]))
    base_cost = float(np.bincount(gone[left], minlength=len(chain.cost)) @ chain.cost)

    grid_a = near_thresholds(chain.confidence[a, reached], now.thresholds[a], dense=b is None)
    # what becomes of the samples that stay at a: between a and b they may leave whatever b does
    until = len(chain.stages) if b is None else b
    between = first_leaving(leaves[a + 1 : until, reached]) + a + 1
    on = np.flatnonzero(between == until) if b is not None else np.empty(0, dtype=np.intp)
    if b is not None:
        grid_b = near_thresholds(chain.confidence[b, reached[on]], now.thresholds[b])
        bins_b = np.searchsorted(grid_b, chain.confidence[b, reached[on]], side="left")
        rest = first_leaving(leaves[b + 1 :, reached[on]]) + b + 1
    else:
        grid_b = np.zeros(1, dtype=np.float32)
    bins_a = np.searchsorted(grid_a, chain.confidence[a, reached], side="left")
    size_a, size_b = len(grid_a) + 1, len(grid_b) + 1

    def along_a(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.bincount(bins_a[rows], weights=weights, minlength=size_a)

    everyone = np.arange(len(reached))
    fixed = everyone if b is None else np.flatnonzero(between != until)
    correct = base_correct + _above(along_a(everyone, chain.correct[a, reached].astype(np.float64)))
    correct = correct + _below(along_a(fixed, chain.correct[between[fixed], reached[fixed]].astype(np.float64)))
    cost = base_cost + chain.cost[a] * _above(along_a(everyone, np.ones(len(reached))))
    cost = cost + _below(along_a(fixed, chain.cost[between[fixed]]))
    correct, cost = correct[:, None], cost[:, None]
    if b is not None and len(on):
        flat = bins_a[on] * size_b + bins_b

        def over_both(weights: np.ndarray) -> np.ndarray:
            return _below(np.bincount(flat, weights=weights, minlength=size_a * size_b).reshape(size_a, size_b))

        correct = correct + _above(over_both(chain.correct[b, reached[on]].astype(np.float64)).T).T
        correct = correct + _below(over_both(chain.correct[rest, reached[on]].astype(np.float64)).T).T
        cost = cost + chain.cost[b] * _above(over_both(np.ones(len(on))).T).T
        cost = cost + _below(over_both(chain.cost[rest]).T).T
    correct, cost = np.broadcast_arrays(correct, cost)
    # where all miss the goal, come nearer to it
    if target.correct is not None:
        met = correct >= target.correct
        value = np.where(met, cost, np.inf) if met.any() else -correct
    else:
        met = cost <= target.cost * (1 + SAME)
        value = np.where(met, -correct, np.inf) if met.any() else cost
    i, j = np.unravel_index(int(value.argmin()), value.shape)
    thresholds = now.thresholds.copy()
    thresholds[a] = grid_a[i]
    if b is not None and len(on):
        thresholds[b] = grid_b[j]
    return Fit(thresholds, float(correct[i, j]), float(cost[i, j]))


def _below(counts: np.ndarray) -> np.ndarray:
    # samples that stay at each threshold, along the first axis
    return np.cumsum(counts, axis=0)[:-1]


def _above(counts: np.ndarray) -> np.ndarray:
    staying = np.cumsum(counts, axis=0)
    return staying[-1:] - staying[:-1]


def near_thresholds(values: np.ndarray, current: np.float32, dense: bool = False) -> np.ndarray:
    """Return thresholds around the current one: every single sample near it, ever wider steps further away.

    Args:
        values: float32 (n,); the confidences of the samples that reach the stage.
        current: The threshold in use; it is among the answer.
        dense: All distinct thresholds.

    Returns:
        float32, strictly rising.
    """
    ordered = np.sort(values)
    if dense or len(ordered) <= 64:
        return np.unique(np.append(thresholds_between(ordered), np.float32(current)))
    middle = np.searchsorted(ordered, current, side="right")
    steps = np.unique(np.round(_WIDER ** np.arange(np.ceil(np.log(len(ordered)) / np.log(_WIDER)) + 1)))
    places = middle + np.concatenate([-steps[::-1], [0], steps])
    places = places[(places > 0) & (places < len(ordered))].astype(np.int64)
    return np.unique(np.append(thresholds_between(ordered, places), np.float32(current)))
