"""The whole front at once, for chains without fused evidence: line searches at a sweep of multipliers.

Multipliers (correct answers per cost) are chosen where the front found so far has its widest gap. Each is solved on
some of the samples; stages and thresholds are then set on all.
"""

import functools
import heapq
from collections.abc import Sequence

import numpy as np

from ..records import Records
from ..records.splits import subsample
from ..records.stage_table import Stages
from .outcomes import FEW_ROWS, OutcomeCache
from .position_search import OFF, Option, PositionSearch, TradeoffPoint, coordinate_ascent
from .targets import ROUNDING, Fit


class TradeoffPath:
    """Finds fronts of chains without fused evidence.

    Args:
        outcomes: Of a rule that is separable by stage, with answers that are worth 0 or 1.
        stages: Indices of the stages that may be used; all before the final if None.
        seed: Decides the coarse samples, if there are more.
    """

    def __init__(self, outcomes: OutcomeCache, stages: Stages | None = None, seed: int = 0) -> None:
        self.outcomes, self.records = outcomes, outcomes.records
        self.groups = _groups(self.records, tuple(range(outcomes.final)) if stages is None else stages)
        rows = subsample(len(self.records), FEW_ROWS, seed)
        self.searches = self._searches(rows)
        self.all_correct = self.records.final_worth
        self.final_correct = self.all_correct[rows]

    def _searches(self, rows: np.ndarray | slice) -> list[PositionSearch]:
        samples = np.arange(len(self.records))[rows].size
        heads = max(map(len, self.groups), default=0)
        scratch = np.empty(heads * (samples + 1), dtype=np.int64)
        return [PositionSearch(self.outcomes, each, rows, scratch) for each in self.groups]

    @functools.cached_property
    def exact_searches(self) -> list[PositionSearch]:
        """The groups on all samples."""
        return self._searches(slice(None))

    def front(self, points: int) -> list[tuple[Stages, Fit]]:
        """Find a front.

        Args:
            points: How many points at most, at least 2.

        Returns:
            Chains with exact thresholds and their counts on all samples, none dominated, from cheap to expensive.
        """
        found = [self.exact(point) for point in self.convex_front(points)]
        # what a start led to on all samples may be worse than what another multiplier's start led to
        for place, point in enumerate(found):
            best = max(found, key=point.advantage)
            if point.advantage(best) > ROUNDING * len(self.records):
                found[place] = self._on_all_samples(point.multiplier, best.options)
        front: list[tuple[Stages, Fit]] = []
        for stages, fit in sorted(map(self._fitted, found), key=lambda found: (found[1].cost, -found[1].correct)):
            if not front or fit.correct > front[-1][1].correct:
                front.append((stages, fit))
        return front

    def convex_front(self, points: int) -> list[TradeoffPoint]:
        """Find the best configurations at multipliers that spread over the front.

        Args:
            points: How many at most, at least 2.

        Returns:
            Points on the convex front of the coarse samples.
        """
        off = [OFF] * len(self.groups)
        expensive, cheap = self.solve(ROUNDING, off), self.solve(1 / ROUNDING, off)
        # a point that lies no more above the chord of its neighbors is not new
        rise = ROUNDING * len(self.final_correct)
        found, gaps = [cheap, expensive], [(-_gap(cheap, expensive), 0, cheap, expensive)]
        while gaps and len(found) < points:
            gap, _, low, high = heapq.heappop(gaps)
            if not gap:
                break
            multiplier = (high.correct - low.correct) / (high.cost - low.cost)
            new = self.solve(multiplier, low.options, high.options)
            if new.advantage(high) >= -rise:
                continue
            found.append(new)
            for place, pair in enumerate(((low, new), (new, high))):
                heapq.heappush(gaps, (-_gap(*pair), 2 * len(found) + place, *pair))
        return found

    def solve(self, multiplier: float, *starts: Sequence[Option]) -> TradeoffPoint:
        """Find the best configuration at a multiplier, on the coarse samples.

        Args:
            multiplier: Correct answers that one backbone run is worth.
            starts: Each gives the option to start with, per group.

        Returns:
            The best of the points, at which no change of one group helps, that are reached from the starts.
        """
        points = [coordinate_ascent(self.searches, self.final_correct, multiplier, start) for start in starts]
        return max(points, key=lambda point: point.correct - multiplier * point.cost)

    def exact(self, point: TradeoffPoint) -> TradeoffPoint:
        """Set stages and thresholds of a point on all samples: one more sweep over all stages and all confidences.

        Args:
            point: A point of the coarse samples.

        Returns:
            Its options and counts on all samples.
        """
        start = [
            OFF if option == OFF else fine.option(option[0], coarse.threshold(option))
            for fine, coarse, option in zip(self.exact_searches, self.searches, point.options, strict=True)
        ]
        return self._on_all_samples(point.multiplier, start)

    def _on_all_samples(self, multiplier: float, start: Sequence[Option]) -> TradeoffPoint:
        return coordinate_ascent(self.exact_searches, self.all_correct, multiplier, start, sweeps=1)

    def _fitted(self, point: TradeoffPoint) -> tuple[Stages, Fit]:
        # the stages of a point on all samples, and their thresholds with their counts (cost in the records' unit)
        used = [pair for pair in zip(self.exact_searches, point.options, strict=True) if pair[1] != OFF]
        thresholds = np.array([search.threshold(option) for search, option in used], dtype=np.float32)
        fit = Fit(thresholds, point.correct, point.cost * self.records.baseline_cost)
        return tuple(search.stages[head] for search, (head, _) in used), fit


def _gap(low: TradeoffPoint, high: TradeoffPoint) -> float:
    return max(high.correct - low.correct, 0.0) * max(high.cost - low.cost, 0.0)


def _groups(records: Records, stages: Stages) -> list[Stages]:
    # exits of one position exclude each other; every saver is a group of its own
    groups: list[list[int]] = []
    for stage in stages:
        last = groups[-1][-1] if groups else None
        if last is not None and records.kinds[stage] == "exit" and records.positions[last] == records.positions[stage]:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return [tuple(group) for group in groups]
