"""The whole front at once, where no evidence is fused: exact line search per position, swept along the trade-offs.

For a trade-off (right answers per cost) the best option of one position, which head, which threshold, or none, is the
argmax of a cumulative sum over the samples that reach it, all other positions fixed. Positions are swept from the last
to the first until nothing changes (coordinate ascent on DyCE's objective, arXiv 2403.01695), and trade-offs are chosen
where the front found so far has its widest gap.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from ..records import Records
from .chain import Chains
from .fit import Fit, quantile_thresholds, thresholds_between

_BINS = 256
# positions, heads and rough thresholds are found on so many samples, the thresholds then set on all
_COARSE_ROWS = 10_000
_SWEEPS = 12
# a point must lie above its neighbours' chord by this share of one sample to count as new
_ABOVE = 1e-6


@dataclass(frozen=True)
class PathPoint:
    """A configuration that is best at some trade-off.

    Attributes:
        trade: Right answers that one backbone run is worth.
        choice: Per group the stage in use, as its place in the group, or -1.
        bins: Per group the threshold's place on its stage's grid.
        right: Right answers on the coarse samples.
        cost: On the coarse samples, in backbone runs.
    """

    trade: float
    choice: tuple[int, ...]
    bins: tuple[int, ...]
    right: float
    cost: float


class Path:
    """Finds fronts of chains without fused evidence.

    Args:
        chains: Made with ``fuse='none'``.
        allowed: Places of the stages that may be used; all before the final if None.
        seed: Decides the coarse samples, if there are more.
    """

    def __init__(self, chains: Chains, allowed: tuple[int, ...] | None = None, seed: int = 0) -> None:
        records = chains.records
        self.records, self.truth, self.samples = records, chains.truth, len(records)
        stages = tuple(range(chains.final)) if allowed is None else allowed
        self.groups = _groups(records, stages)
        self.own = records.own_cost / records.baseline_cost
        self.prefix = records.prefix_cost / records.baseline_cost
        rows = np.arange(self.samples)
        if self.samples > _COARSE_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(self.samples, _COARSE_ROWS, replace=False))
        self.coarse = len(rows)
        truth = self.truth[rows]
        self.final_right = np.asarray(records.topk_classes[-1, rows, 0]) == truth
        self.grids: dict[int, np.ndarray] = {}
        self.codes: dict[int, np.ndarray] = {}
        for stage in stages:
            confidence = np.asarray(records.topk_probabilities[stage, rows, 0])
            self.grids[stage] = quantile_thresholds(confidence, _BINS)
            # even codes are wrong answers, odd ones right, so that one count gives both
            bins = np.searchsorted(self.grids[stage], confidence, side="left")
            self.codes[stage] = 2 * bins + (np.asarray(records.topk_classes[stage, rows, 0]) == truth)

    def front(self, points: int) -> list[tuple[tuple[int, ...], Fit]]:
        """Find a front.

        Args:
            points: How many points at most, at least 2.

        Returns:
            Chains with exact thresholds and their counts on all samples, none dominated, from cheap to dear.
        """
        fitted = [self.exact(point) for point in self.trades(points)]
        front: list[tuple[tuple[int, ...], Fit]] = []
        for stages, fit in sorted(fitted, key=lambda found: (found[1].cost, -found[1].right)):
            if not front or fit.right > front[-1][1].right:
                front.append((stages, fit))
        return front

    def trades(self, points: int) -> list[PathPoint]:
        """Find the best configuration at trade-offs that spread over the front.

        Args:
            points: How many at most, at least 2.

        Returns:
            Points on the coarse samples' convex front.
        """
        off = (-1,) * len(self.groups)
        dear, cheap = self.solve(1e-9, off, off), self.solve(1e9, off, off)
        found, gaps = [cheap, dear], [(-_gap(cheap, dear), 0, cheap, dear)]
        while gaps and len(found) < points:
            _, _, low, high = heapq.heappop(gaps)
            if high.cost <= low.cost or high.right <= low.right:
                continue
            trade = (high.right - low.right) / (high.cost - low.cost)
            new = self.solve(trade, high.choice, high.bins)
            if new.right - trade * new.cost <= high.right - trade * high.cost + _ABOVE:
                continue
            found.append(new)
            for place, pair in enumerate(((low, new), (new, high))):
                heapq.heappush(gaps, (-_gap(*pair), 2 * len(found) + place, *pair))
        return found

    def solve(self, trade: float, choice: tuple[int, ...], bins: tuple[int, ...]) -> PathPoint:
        """Find the best configuration at a trade-off, on the coarse samples.

        Args:
            trade: Right answers that one backbone run is worth.
            choice: Per group the stage to start with.
            bins: Per group the threshold to start with.

        Returns:
            The better of the points, at which no change of one group helps, that are reached from this start and from
            what one pass from left to right gives.
        """
        points = [
            self._ascend(trade, list(zip(choice, bins, strict=True))),
            self._ascend(trade, self._left_to_right(trade)),
        ]
        return max(points, key=lambda point: point.right - trade * point.cost)

    def _left_to_right(self, trade: float) -> list[tuple[int, int]]:
        # each group at its best with everything behind it off, as DyCE does
        value = self.final_right - trade * self.prefix[-1]
        option: list[tuple[int, int]] = []
        rows = None
        for g in range(len(self.groups)):
            option.append(self._best_option(g, rows, value, 0.0, trade, (-1, -1)))
            gone = self._leaves(g, *option[g])
            if gone is not None:
                rows = np.flatnonzero(~gone) if rows is None else rows[~gone[rows]]
        return option

    def _ascend(self, trade: float, option: list[tuple[int, int]]) -> PathPoint:
        # (stage, threshold) per group, from the last group to the first until nothing changes
        leaves = [self._leaves(g, *option[g]) for g in range(len(option))]
        for _ in range(_SWEEPS):
            reached = self._reached(leaves)
            # a sample's value from here on is value - paid; the own costs are the same for all that arrive
            value, paid, changed = self.final_right - trade * self.prefix[-1], 0.0, False
            for g in range(len(option) - 1, -1, -1):
                best = self._best_option(g, reached[g], value, paid, trade, option[g])
                if best != option[g]:
                    option[g], leaves[g], changed = best, self._leaves(g, *best), True
                if best[0] >= 0:
                    stage = self.groups[g][best[0]]
                    here = (self.codes[stage] & 1) + (paid - trade * self.prefix[stage])
                    np.copyto(value, here, where=leaves[g])
                    paid += trade * self.own[stage]
            if not changed:
                break
        stages = [self.groups[g][head] for g, (head, _) in enumerate(option) if head >= 0]
        gone = [leaves[g] for g, (head, _) in enumerate(option) if head >= 0]
        right, cost = self._count(stages, gone, [self.codes[s] & 1 for s in stages], self.final_right)
        return PathPoint(trade, tuple(h for h, _ in option), tuple(k for _, k in option), right, cost)

    def _leaves(self, group: int, head: int, place: int) -> np.ndarray | None:
        return None if head < 0 else self.codes[self.groups[group][head]] >= 2 * (place + 1)

    def _reached(self, leaves: list[np.ndarray | None]) -> list[np.ndarray | None]:
        # per group the rows that reach it; None for all
        reached: list[np.ndarray | None] = []
        rows = None
        for gone in leaves:
            reached.append(rows)
            if gone is not None:
                rows = np.flatnonzero(~gone) if rows is None else rows[~gone[rows]]
        return reached

    def _best_option(
        self,
        group: int,
        rows: np.ndarray | None,
        value: np.ndarray,
        paid: float,
        trade: float,
        now: tuple[int, int],
    ) -> tuple[int, int]:
        after = value if rows is None else value[rows]
        best, option = float(after.sum()), (-1, -1)
        for head, stage in enumerate(self.groups[group]):
            code = self.codes[stage] if rows is None else self.codes[stage][rows]
            size = 2 * (len(self.grids[stage]) + 1)
            count = np.bincount(code, minlength=size)
            staying = np.bincount(code, weights=after, minlength=size)
            here = count[1::2] + (paid - trade * self.prefix[stage]) * (count[0::2] + count[1::2])
            # leaving at threshold k are the bins above k, staying those up to k
            total = np.cumsum(staying[0::2] + staying[1::2] - here)[:-1]
            total += here.sum() - trade * self.own[stage] * len(after)
            place = int(total.argmax())
            # the option in use stays unless another is really better
            if head == now[0] and total[now[1]] >= total[place] - _ABOVE:
                place = now[1]
            if total[place] > best + _ABOVE:
                best, option = float(total[place]), (head, place)
        return option

    def _count(
        self, stages: list[int], gone: list[np.ndarray], rights: list[np.ndarray], final_right: np.ndarray
    ) -> tuple[float, float]:
        staying = np.ones(len(final_right), dtype=bool)
        right, cost, paid = 0, 0.0, 0.0
        for stage, leaves, is_right in zip(stages, gone, rights, strict=True):
            leaving = staying & leaves
            paid += self.own[stage]
            right += int(np.count_nonzero(is_right[leaving]))
            cost += np.count_nonzero(leaving) * (paid + self.prefix[stage])
            staying &= ~leaves
        right += int(np.count_nonzero(final_right & staying))
        return float(right), float(cost + np.count_nonzero(staying) * (paid + self.prefix[-1]))

    def exact(self, point: PathPoint) -> tuple[tuple[int, ...], Fit]:
        """Set a point's thresholds on all samples: one more sweep over the stages in use, every distinct confidence.

        Args:
            point: A point of the coarse samples.

        Returns:
            Its stages, and their thresholds with the counts on all samples (cost in the records' unit).
        """
        used = [(self.groups[g][head], k) for g, (head, k) in enumerate(zip(point.choice, point.bins, strict=True))
                if head >= 0]  # fmt: skip
        stages = [stage for stage, _ in used]
        sure = [np.asarray(self.records.topk_probabilities[stage, :, 0]) for stage in stages]
        rights = [np.asarray(self.records.topk_classes[stage, :, 0]) == self.truth for stage in stages]
        final_right = np.asarray(self.records.topk_classes[-1, :, 0]) == self.truth
        gone = [confidence > self.grids[stage][k] for confidence, (stage, k) in zip(sure, used, strict=True)]
        reached = self._reached(gone)
        thresholds = np.empty(len(used), dtype=np.float32)
        value, paid = final_right - point.trade * self.prefix[-1], 0.0
        for place in range(len(used) - 1, -1, -1):
            here = rights[place] + (paid - point.trade * self.prefix[stages[place]])
            rows = slice(None) if reached[place] is None else reached[place]
            old = self.grids[stages[place]][used[place][1]]
            thresholds[place] = _best_threshold(sure[place][rows], (value - here)[rows], old)
            gone[place] = sure[place] > thresholds[place]
            np.copyto(value, here, where=gone[place])
            paid += point.trade * self.own[stages[place]]
        right, cost = self._count(stages, gone, rights, final_right)
        return tuple(stages), Fit(thresholds, right, cost * self.records.baseline_cost)


def _best_threshold(confidence: np.ndarray, stay: np.ndarray, old: np.float32) -> np.float32:
    # stay: what each sample brings more when it stays
    if not len(confidence):
        return old
    order = np.argsort(confidence)
    ordered = confidence[order]
    total = np.concatenate([[0.0], np.cumsum(stay[order])])
    allowed = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    place = int(np.where(allowed, total, -np.inf).argmax())
    if place == 0 or place == len(ordered):
        return thresholds_between(ordered[[0, -1]])[0 if place == 0 else -1]
    return thresholds_between(ordered[place - 1 : place + 1])[1]


def _gap(low: PathPoint, high: PathPoint) -> float:
    return max(high.right - low.right, 0.0) * max(high.cost - low.cost, 0.0)


def _groups(records: Records, stages: tuple[int, ...]) -> list[tuple[int, ...]]:
    # exits of one position exclude each other; every saver stands alone
    groups: list[list[int]] = []
    for stage in stages:
        last = groups[-1][-1] if groups else None
        if last is not None and records.kinds[stage] == "exit" and records.positions[last] == records.positions[stage]:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return [tuple(group) for group in groups]
