"""Limits on what every class or group loses, kept by thresholds for samples that count more.

Thresholds are fitted to one limit: on the loss of all samples. Adding up the limits of groups, each times a multiplier,
gives one such limit (a surrogate constraint): a sample then counts 1 plus the multiplier of its group. Multipliers of
the groups whose limits are broken grow until all limits hold, and shrink where there is room.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..chain.thresholds import Configuration
from ..points.goal import Goal
from ..records.stage_table import Stages
from ..search.outcomes import ChainOutcomes, OutcomeCache
from ..search.solver import Search, Solution
from ..search.targets import CountTarget, Fit
from ..search.thresholds import first_leaving, polish, rough_fits, score

#: Limits hold on the samples searched with so many standard errors to spare.
CAUTION = 1.0
# chains come from searches for the allowed drop and for less, by so many standard errors of a drop
_STRICTER = (0.0, 1.0, 3.0)
_DISCORDANCE = 0.05
_ROUNDS = 12
# multipliers start where a group counts with this share of all samples, and grow or shrink by these factors
_FIRST, _GROWTH, _SHRINKAGE = 0.25, 2.0, 0.7
# by how much of what a group exceeds its limit by the limit is tightened
_TIGHTENING = 0.5
_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Limited:
    """A chain with what its answers are worth: to the risk of the records, and to the risk within groups.

    Attributes:
        outcomes: By the risk of the records.
        within: (m + 1, N); by the risk within groups.
        starts: Thresholds that the search found without limits.
    """

    outcomes: ChainOutcomes
    within: np.ndarray
    starts: list[np.ndarray]

    def best_start(self, target: CountTarget) -> np.ndarray:
        """Return the start that is best for a target without limits."""
        return min(self.starts, key=lambda thresholds: target.fit_key(score(self.outcomes, thresholds)))

    def weighed(self, multipliers: np.ndarray) -> ChainOutcomes:
        """Return outcomes in which samples count more: float64 (N,) >= 0."""
        return replace(self.outcomes, correct=self.outcomes.correct + multipliers * self.within, moves={})

    def worth(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what answers are worth, by the risk and by that within groups: float64 (N,) each."""
        out, every = first_leaving(self.outcomes.confidence > thresholds[:, None]), np.arange(self.outcomes.samples)
        return self.outcomes.correct[out, every].astype(np.float64), self.within[out, every].astype(np.float64)


class _Known(NamedTuple):
    """A fit with its mean loss, and the mean loss and the sum of squares of each group (G,)."""

    solution: Solution
    loss: float
    by_group: np.ndarray
    squares: np.ndarray


class ClassLimits:
    """Finds configurations that keep a limit in every group.

    Args:
        search: The search on all samples.
        most: The largest mean loss of a group, as a share.
    """

    def __init__(self, search: Search, most: float) -> None:
        self.search, self.records, self.most = search, search.records, most
        risk = self.records.risk.within_groups
        within = OutcomeCache(self.records.with_risk(risk), search.options.fuse)
        self._within = search.outcomes if risk is self.records.risk else within
        self._final, self._final_within = self.records.reference_worth, within.records.final_worth
        self._groups = self.records.group
        self._sizes = np.maximum(np.bincount(self._groups), 1)
        self._chains: dict[Stages, _Limited] = {}
        self._known: list[_Known] = []

    def configurations(self, goals: Sequence[Goal], caution: Sequence[float]) -> list[Configuration | None]:
        """Search for goals under the limit.

        Args:
            goals: What to reach on these samples; no budgets.
            caution: Standard errors to spare in each group, per goal.

        Returns:
            The cheapest configuration per goal that keeps all limits, those found for other goals included; None where
            only the backbone alone does.
        """
        if not self._chains:
            self._add_chains(goals)
        for goal, spare in zip(goals, caution, strict=True):
            for stages, chain in self._chains.items():
                self._known += self._fit(stages, chain, goal.allowed_drop, spare)
        return [self._cheapest(goal.allowed_drop, spare) for goal, spare in zip(goals, caution, strict=True)]

    def shortages(self) -> list[str]:
        """Say which classes or groups have no sample, and which too few to show that they lose little.

        A group of n samples of which none is lost may lose 1 / n by the standard error of one more.

        Returns:
            At most one sentence of each kind.
        """
        # classes that no sample is of are known by the answers, groups are not
        classes = self.records.classes if self.records.groups is None else 0
        counts = np.bincount(self._groups, minlength=classes)
        absent, few = counts == 0, (counts > 0) & (CAUTION > self.most * counts) & (self.most > 0)
        found = []
        if absent.any():
            named, many = self._named(absent), absent.sum() > 1
            found.append(
                f"{named} {'have' if many else 'has'} none of the samples searched, and {'are' if many else 'is'} not "
                "limited at all"
            )
        if few.any():
            found.append(
                f"{self._named(few)} {'have' if few.sum() > 1 else 'has'} fewer than "
                f"{int(np.ceil(CAUTION / self.most))} of the samples searched, too few to show that they lose at most "
                f"{100 * self.most:g} points"
            )
        return found

    def _named(self, which: np.ndarray) -> str:
        """Return "class 3" or "2 classes (3, 9)" for the groups of a mask (G,)."""
        places = np.flatnonzero(which)
        one, several = ("class", "classes") if self.records.groups is None else ("group", "groups")
        if len(places) == 1:
            return f"{one} {places[0]}"
        return f"{len(places)} {several} ({', '.join(map(str, places[:5]))}{', ...' if len(places) > 5 else ''})"

    def _add_chains(self, goals: Sequence[Goal]) -> None:
        error = np.sqrt(_DISCORDANCE / len(self.records))
        drops = {max(-1.0, goal.allowed_drop - more * error) for goal in goals for more in _STRICTER}
        for found in self.search.run([goals[0].allowing(drop) for drop in sorted(drops)]):
            if found is None or not found.stages:
                continue
            if found.stages not in self._chains:
                outcomes, within = (each.chain(found.stages) for each in (self.search.outcomes, self._within))
                self._chains[found.stages] = _Limited(outcomes, within.correct, [])
            self._chains[found.stages].starts.append(found.fit.thresholds)

    def _cheapest(self, allowed: float, caution: float) -> Configuration | None:
        most = self.records.baseline_cost * len(self.records)
        able = [
            known
            for known in self._known
            if known.loss <= allowed + _ROUNDING and known.solution.fit.cost < most and not self._excess(known, caution)
        ]
        best = min(able, key=lambda known: known.solution.fit.cost, default=None)
        return None if best is None else self.search.configuration(best.solution)

    def _fit(self, stages: Stages, chain: _Limited, allowed: float, caution: float) -> Iterator[_Known]:
        """Yield fits of a chain; the multipliers change as long as that helps."""
        samples, sizes = len(self.records), self._sizes
        multipliers = np.zeros(len(sizes))
        least = float(self._final.sum()) - samples * (allowed + _ROUNDING)
        start = chain.best_start(CountTarget(correct=least))
        limits = np.maximum(self._left(caution, np.zeros(len(sizes))), 0.0)
        for _ in range(_ROUNDS):
            by_sample = multipliers[self._groups]
            weighed = chain.weighed(by_sample)
            room = samples * allowed + float(multipliers @ (limits * sizes))
            final = float(self._final.sum() + by_sample @ self._final_within)
            fit = _fitted(weighed, CountTarget(correct=final - room - _ROUNDING * samples), start)
            known, start = self._measured(stages, chain, fit), fit.thresholds
            yield known
            broken = self._excess(known, caution)
            if not broken and not multipliers.any():
                return
            if known.loss > allowed + _ROUNDING or not broken:
                multipliers *= _SHRINKAGE
            for group, excess in broken.items():
                multipliers[group] = max(multipliers[group] * _GROWTH, _FIRST * samples / sizes[group])
                limits[group] -= _TIGHTENING * excess

    def _measured(self, stages: Stages, chain: _Limited, fit: Fit) -> _Known:
        worth, within = chain.worth(fit.thresholds)
        losses = self._final_within - within
        sums, squares = (np.bincount(self._groups, each, len(self._sizes)) for each in (losses, losses**2))
        return _Known(Solution(stages, fit), float(self._final.mean() - worth.mean()), sums / self._sizes, squares)

    def _excess(self, known: _Known, caution: float) -> dict[int, float]:
        """Return by how much the groups whose limits are broken exceed them."""
        excess = known.by_group - np.maximum(self._left(caution, known.squares), 0.0)
        return {int(group): float(excess[group]) for group in np.flatnonzero(excess > _ROUNDING)}

    def _left(self, caution: float, squares: np.ndarray) -> np.ndarray:
        # what groups may lose with their standard errors to spare; one more sample may be lost by chance
        left: np.ndarray = self.most - caution * np.sqrt(squares + 1) / self._sizes
        return left


def _fitted(weighed: ChainOutcomes, target: CountTarget, start: np.ndarray) -> Fit:
    (rough,), _ = rough_fits(weighed, [target], start)
    return polish(weighed, target, rough)
