"""The whole front at once, where no evidence is fused: line searches swept along the trade-offs.

Trade-offs (right answers per cost) are chosen where the front found so far has its widest gap. Each is solved on some
of the samples, its thresholds are then set on all.
"""

import heapq
from collections.abc import Sequence

import numpy as np

from ..records import Records
from .outcomes import OutcomeCache, subsample
from .position_search import OFF, Option, PositionSearch, TradeoffPoint, coordinate_ascent
from .table import Fit

_BINS = 256
# positions, heads and rough thresholds are found on so many samples, the thresholds then set on all
_COARSE_ROWS = 10_000
# gaps of so much less than an even share of the front hide nothing
_SMALL_GAP = 1 / 8
# a point must lie above its neighbours' chord by this share of one sample to count as new
_ABOVE = 1e-6


class TradeoffPath:
    """Finds fronts of chains without fused evidence.

    Args:
        chains: Made with ``fuse='none'``.
        allowed: Places of the stages that may be used; all before the final if None.
        seed: Decides the coarse samples, if there are more.
    """

    def __init__(self, chains: OutcomeCache, allowed: tuple[int, ...] | None = None, seed: int = 0) -> None:
        self.records, self.truth = chains.records, chains.truth
        stages = tuple(range(chains.final)) if allowed is None else allowed
        self.groups = _groups(self.records, stages)
        rows = subsample(len(self.records), _COARSE_ROWS, seed)
        self.coarse = len(rows)
        scratch = np.empty(3 * max(map(len, self.groups), default=0) * (len(rows) + 1), dtype=np.int64)
        self.lines = [PositionSearch(self.records, self.truth, group, rows, _BINS, scratch) for group in self.groups]
        self.final_correct = np.asarray(self.records.topk_classes[-1, rows, 0]) == self.truth[rows]
        self.all_correct = np.asarray(self.records.topk_classes[-1, :, 0]) == self.truth
        self._exact_lines: dict[int, PositionSearch] = {}
        self._exact_scratch = np.empty(3 * (len(self.records) + 1), dtype=np.int64)

    def front(self, points: int) -> list[tuple[tuple[int, ...], Fit]]:
        """Find a front.

        Args:
            points: How many points at most, at least 2.

        Returns:
            Chains with exact thresholds and their counts on all samples, none dominated, from cheap to dear.
        """
        fitted = [self.exact(point) for point in self.convex_front(points)]
        front: list[tuple[tuple[int, ...], Fit]] = []
        for stages, fit in sorted(fitted, key=lambda found: (found[1].cost, -found[1].correct)):
            if not front or fit.correct > front[-1][1].correct:
                front.append((stages, fit))
        return front

    def convex_front(self, points: int) -> list[TradeoffPoint]:
        """Find the best configuration at trade-offs that spread over the front.

        Args:
            points: How many at most, at least 2.

        Returns:
            Points on the coarse samples' convex front.
        """
        off = [OFF] * len(self.groups)
        dear, cheap = self.solve(1e-9, off), self.solve(1e9, off)
        found, gaps = [cheap, dear], [(-_gap(cheap, dear), 0, cheap, dear)]
        smallest = _SMALL_GAP * _gap(cheap, dear) / points**2
        while gaps and len(found) < points:
            gap, _, low, high = heapq.heappop(gaps)
            if -gap <= smallest:
                break
            multiplier = (high.correct - low.correct) / (high.cost - low.cost)
            new = self.solve(multiplier, low.options, high.options)
            if new.correct - multiplier * new.cost <= high.correct - multiplier * high.cost + _ABOVE:
                continue
            found.append(new)
            for place, pair in enumerate(((low, new), (new, high))):
                heapq.heappush(gaps, (-_gap(*pair), 2 * len(found) + place, *pair))
        return found

    def solve(self, multiplier: float, *starts: Sequence[Option]) -> TradeoffPoint:
        """Find the best configuration at a trade-off, on the coarse samples.

        Args:
            trade: Right answers that one backbone run is worth.
            starts: Each gives the option to start with per group.

        Returns:
            The best of the points, at which no change of one group helps, that are reached from the starts.
        """
        points = [coordinate_ascent(self.lines, self.final_correct, multiplier, start) for start in starts]
        return max(points, key=lambda point: point.correct - multiplier * point.cost)

    def exact(self, point: TradeoffPoint) -> tuple[tuple[int, ...], Fit]:
        """Set a point's thresholds on all samples: one more sweep over the stages in use, every distinct confidence.

        Args:
            point: A point of the coarse samples.

        Returns:
            Its stages, and their thresholds with the counts on all samples (cost in the records' unit).
        """
        lines, options = [], []
        for group, coarse, (head, place) in zip(self.groups, self.lines, point.options, strict=True):
            if head >= 0:
                lines.append(self._exact_line(group[head]))
                options.append(lines[-1].option(coarse.grids[head][place]))
        fine = coordinate_ascent(lines, self.all_correct, point.multiplier, options, sweeps=1)
        used = [(line, place) for line, (head, place) in zip(lines, fine.options, strict=True) if head >= 0]
        thresholds = np.array([line.grids[0][place] for line, place in used], dtype=np.float32)
        return tuple(line.stages[0] for line, _ in used), Fit(
            thresholds, fine.correct, fine.cost * self.records.baseline_cost
        )

    def _exact_line(self, stage: int) -> PositionSearch:
        if stage not in self._exact_lines:
            every, count = slice(None), len(self.records) + 2
            self._exact_lines[stage] = PositionSearch(
                self.records, self.truth, (stage,), every, count, self._exact_scratch
            )
        return self._exact_lines[stage]


def _gap(low: TradeoffPoint, high: TradeoffPoint) -> float:
    return max(high.correct - low.correct, 0.0) * max(high.cost - low.cost, 0.0)


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
