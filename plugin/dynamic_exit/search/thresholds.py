"""Thresholds of one chain: moves of one and two thresholds from the best on a grid.

With all other stages fixed, what a change of one threshold does to right answers and cost is a cumulative sum over the
samples sorted by confidence; two thresholds together need a two-dimensional one. Both are exact.
"""

import numpy as np

from .outcomes import Chain
from .table import SAME, TABLE_CELLS, Fit, Need, Table, grid_for, quantile_thresholds, thresholds_between

# beyond so many stages a table is too coarse to improve on a good start
_TABLE_STAGES = 4
_ROUNDS = 8
# each step away from a threshold is so many times as wide as the one before
_WIDER = 1.2
# a move must improve by this share to count
_WORTH = 1e-6


def score(chain: Chain, thresholds: np.ndarray) -> Fit:
    """Count right answers and cost of thresholds on a chain.

    Args:
        chain: The chain.
        thresholds: float32 (m,).

    Returns:
        The counts.
    """
    out = first_leaving(chain.confidence > thresholds[:, None])
    right = np.count_nonzero(chain.right[out, np.arange(chain.samples)])
    return Fit(thresholds, float(right), float(np.bincount(out, minlength=len(chain.cost)) @ chain.cost))


def first_leaving(leaves: np.ndarray) -> np.ndarray:
    """Return where each sample leaves: the first True of bool (m, n) per column, m where there is none."""
    out = np.full(leaves.shape[1], len(leaves), dtype=np.intp)
    for stage in range(len(leaves) - 1, -1, -1):
        out[leaves[stage]] = stage
    return out


def rough_fits(
    chain: Chain, needs: list[Need], start: np.ndarray | None = None, cells: int = TABLE_CELLS
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
    fits: list[Fit | None] = [None] * len(needs)
    exhaustive = False
    if start is None or len(chain.stages) <= _TABLE_STAGES:
        grids, exhaustive = grid_for(chain, cells)
        table = Table(chain, grids)
        # where no combination on the grid meets the goal, the nearest may still lead there
        fits = [table.fit(need) or table.nearest(need) for need in needs]
    if start is not None:
        tried = score(chain, start)
        for place, need in enumerate(needs):
            key = need.key(tried.right, tried.cost)
            now = fits[place]
            if now is None or key < need.key(now.right, now.cost):
                fits[place] = tried
    return fits, exhaustive


def polish(chain: Chain, need: Need, start: Fit, rounds: int = _ROUNDS) -> Fit:
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
        moved = _move(chain, need, best, a, b)
        now = need.key(best.right, best.cost)
        value, tie = need.key(moved.right, moved.cost)
        better = value < now[0] - _WORTH * abs(now[0]) or (value <= now[0] and tie < now[1])
        quiet = 0 if better else quiet + 1
        best = moved if better else best
        if quiet >= len(moves):
            break
    return best


def relax(chain: Chain, need: Need, start: Fit) -> Fit:
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
        moved = _move(chain, need, best, a, b)
        best = min(best, moved, key=lambda fit: need.key(fit.right, fit.cost))
    return best


def restart(chain: Chain, need: Need, best: Fit, restarts: int, seed: int) -> Fit:
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
        found = polish(chain, need, score(chain, thresholds))
        if need.key(found.right, found.cost) < need.key(best.right, best.cost):
            best = found
    return best


def spread(chain: Chain, need: Need, best: Fit, starts: int) -> Fit:
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
    found = [polish(chain, need, start) for start in Table(chain, grid_for(chain)[0]).apart(need, starts)]
    return min([best, *found], key=lambda fit: need.key(fit.right, fit.cost))


def _move(chain: Chain, need: Need, now: Fit, a: int, b: int | None) -> Fit:
    # the best thresholds of stages a and b, all others as they are
    leaves = chain.confidence > now.thresholds[:, None]
    reached = np.flatnonzero(~leaves[:a].any(axis=0))
    gone = first_leaving(leaves[:a])
    left = gone < a
    base_right = float(np.count_nonzero(chain.right[gone[left], np.flatnonzero(left)]))
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
    right = base_right + _above(along_a(everyone, chain.right[a, reached].astype(np.float64)))
    right = right + _below(along_a(fixed, chain.right[between[fixed], reached[fixed]].astype(np.float64)))
    cost = base_cost + chain.cost[a] * _above(along_a(everyone, np.ones(len(reached))))
    cost = cost + _below(along_a(fixed, chain.cost[between[fixed]]))
    right, cost = right[:, None], cost[:, None]
    if b is not None and len(on):
        flat = bins_a[on] * size_b + bins_b

        def over_both(weights: np.ndarray) -> np.ndarray:
            return _below(np.bincount(flat, weights=weights, minlength=size_a * size_b).reshape(size_a, size_b))

        right = right + _above(over_both(chain.right[b, reached[on]].astype(np.float64)).T).T
        right = right + _below(over_both(chain.right[rest, reached[on]].astype(np.float64)).T).T
        cost = cost + chain.cost[b] * _above(over_both(np.ones(len(on))).T).T
        cost = cost + _below(over_both(chain.cost[rest]).T).T
    right, cost = np.broadcast_arrays(right, cost)
    # where all miss the goal, come nearer to it
    if need.right is not None:
        met = right >= need.right
        value = np.where(met, cost, np.inf) if met.any() else -right
    else:
        met = cost <= need.cost * (1 + SAME)
        value = np.where(met, -right, np.inf) if met.any() else cost
    i, j = np.unravel_index(int(value.argmin()), value.shape)
    thresholds = now.thresholds.copy()
    thresholds[a] = grid_a[i]
    if b is not None and len(on):
        thresholds[b] = grid_b[j]
    return Fit(thresholds, float(right[i, j]), float(cost[i, j]))


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
