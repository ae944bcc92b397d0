"""Which stages to use, and their thresholds, for each of several goals.

If chains are few, all of them are fitted. Else they come from the front of a `TradeoffPath` where evidence is not fused
and there are exits, and from a beam search where it is. Wherever they come from, their thresholds are then fitted to
the goal itself; on a path, single stages of the best are added, dropped and swapped while that helps.
"""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chain.thresholds import NEVER_EXIT, Configuration
from ..points.goal import Goal
from ..records import Records
from ..records.splits import subsample
from ..records.stage_table import Stages
from .beam import Beam
from .dependencies import insert_saver, with_saver_always_on
from .options import SearchOptions
from .outcomes import FEW_ROWS, SOME_ROWS, OutcomeCache
from .table import MAX_CELLS, most_cells
from .targets import CountTarget, Fit, count_target
from .thresholds import polish, relax, rough_fits, score, spread
from .tradeoff import TradeoffPath

# how many points of a path are found for goals
_PATH_POINTS = 40
# samples times stages that exact thresholds are fitted to: where these are few, more chains get some, and from more
# starts
_BUDGET = 1 << 20


@dataclass(frozen=True)
class Solution:
    """A chain fitted to a goal.

    Attributes:
        stages: Indices into the records' stages, without the final.
        fit: Its thresholds and their counts on the samples searched.
    """

    stages: Stages
    fit: Fit


@dataclass(frozen=True)
class Proposal:
    """A chain worth fitting.

    Attributes:
        stages: Indices into the records' stages, without the final.
        start: Thresholds to start from; None to start from a grid.
    """

    stages: Stages
    start: tuple[float, ...] | None = None


class Search:
    """The search on one set of records.

    Args:
        records: The samples to search on.
        options: Of the search.
    """

    def __init__(self, records: Records, options: SearchOptions) -> None:
        self.records, self.options, self.table = records, options, options.table_of(records)
        self.outcomes = OutcomeCache(records, options.fuse)
        self._separable = self.outcomes.separable

    def quick(self) -> "Search":
        """Return a plain search, see `SearchOptions.quick`, that shares what this one knows of chains."""
        # what is shared must be there before the copy
        _ = self._beam
        plain = copy.copy(self)
        plain.options = self.options.quick()
        return plain

    @functools.cached_property
    def _beam(self) -> Beam:
        return Beam(self.records, self.options)

    @property
    def _has_path(self) -> bool:
        return self._separable and self.outcomes.is_counted

    def run(self, goals: Sequence[Goal]) -> list[Solution | None]:
        """Search for every goal.

        Args:
            goals: What to reach on these samples.

        Returns:
            The best solution per goal; None if nothing meets it.
        """
        targets = [count_target(self.outcomes, goal) for goal in goals]
        found = self._fit(targets, self._proposals(goals))
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            # the most accurate configuration may meet a goal that the way to it missed
            known.append(self.most_accurate())
        # what was found for one goal may be better for another
        return [_best(target, known) for target in targets]

    def configurations(
        self, goals: Sequence[Goal], caution: Sequence[float] | None = None
    ) -> list[Configuration | None]:
        """Search for every goal.

        Args:
            goals: What to reach on these samples; limits of classes are not looked at.
            caution: Of no use here, see `ClassLimits`.

        Returns:
            The best configuration per goal; None where there is none beside the backbone alone.
        """
        return [self.configuration(each) if each is not None and each.stages else None for each in self.run(goals)]

    def most_accurate(self) -> Solution:
        """Search for the most correct answers at any cost."""
        # no chain costs more than all stages together
        dearest = self.table.exit_cost(tuple(range(len(self.table) - 1))).sum() / self.records.baseline_cost
        anything = Goal(budget=float(dearest))
        (best,) = self._fit([count_target(self.outcomes, anything)], self._proposals([anything]))
        return best or self._backbone_alone()

    @property
    def least_cost_ratio(self) -> float:
        """The least cost of any stage, over the backbone's."""
        return float((self.records.own_cost + self.records.prefix_cost).min() / self.records.baseline_cost)

    def front(self, points: int) -> list[Solution]:
        """Search for the whole front.

        Args:
            points: How many at most, at least 2.

        Returns:
            Solutions of which none dominates another, from cheap to expensive.
        """
        if self._has_path and self._all_chains is None:
            goals = self._even_goals(points, self.outcomes.baseline_correct)
            found = [*self._path_solutions(points, goals), self._backbone_alone()]
            return self._fill_gaps(undominated(found), points)
        best = self.most_accurate()
        solutions = self.run(self._even_goals(points, best.fit.correct))
        return undominated([best, *(solution for solution in solutions if solution is not None)])

    def _even_goals(self, points: int, most: float) -> list[Goal]:
        # from so many correct answers down to those of the least accurate stage; more goals where little is lost
        room = max(most - self.outcomes.least_correct(), 1)
        drops = self.outcomes.baseline_correct - most + room * np.linspace(0, 1, points) ** 2
        return [Goal(max_accuracy_drop=float(drop)) for drop in drops / len(self.records)]

    def _backbone_alone(self) -> Solution:
        return Solution((), score(self.outcomes.chain(()), np.empty(0, dtype=np.float32)))

    def _fill_gaps(self, found: list[Solution], points: int) -> list[Solution]:
        # the points of a path lie on a convex curve; between two of them, relax the thresholds of the more accurate one
        samples = len(self.records)
        rows = subsample(samples, FEW_ROWS, self.options.seed)
        new: list[Solution] = []
        for accurate, steps in _widest_gaps(found, points - len(found)):
            chain = self.outcomes.chain(accurate.stages)
            coarse = chain.take(rows)
            relaxed = score(coarse, accurate.fit.thresholds)
            correct = relaxed.correct
            for less in steps:
                relaxed = relax(coarse, CountTarget(correct=correct - less * len(rows) / samples), relaxed)
                new.append(Solution(accurate.stages, score(chain, relaxed.thresholds)))
        return undominated(found + new)

    def _fit(self, targets: list[CountTarget], pools: list[list[Proposal]]) -> list[Solution | None]:
        # rough fits of every proposal, one table for all goals that share it; the best few are then polished
        users: dict[Proposal, list[int]] = {}
        for goal, pool in enumerate(pools):
            for proposal in pool:
                users.setdefault(proposal, []).append(goal)
        rough: list[list[tuple[Solution, bool]]] = [[] for _ in targets]
        for proposal, goals in users.items():
            start = None if proposal.start is None else np.array(proposal.start, dtype=np.float32)
            chain = self.outcomes.chain(proposal.stages)
            fits, exact = rough_fits(chain, [targets[goal] for goal in goals], start)
            for goal, fit in zip(goals, fits, strict=True):
                rough[goal].append((Solution(proposal.stages, fit), exact))
        return [self._polish(target, solutions) for target, solutions in zip(targets, rough, strict=True)]

    def _polish(self, target: CountTarget, rough: list[tuple[Solution, bool]]) -> Solution | None:
        coarse = [found for found, exact in rough if not exact]
        coarse.sort(key=lambda found: (target.fit_key(found.fit), found.stages))
        # grids are coarser for longer chains, so the first is not always the best; what is exact takes no place
        width = self.options.beam_width
        fits = max(width, self._affordable(len(self.table))) if self.options.thorough else width
        polished = [
            Solution(each.stages, polish(self.outcomes.chain(each.stages), target, each.fit)) for each in coarse[:fits]
        ]
        polished.sort(key=lambda found: target.fit_key(found.fit))
        if self.options.thorough:
            polished[:width] = [self._spread(target, each) for each in polished[:width]]
        best = _best(target, [*(found for found, exact in rough if exact), *polished, *coarse[fits:]])
        return self._exchange(target, best) if best is not None and self._has_path and self.options.thorough else best

    def _exchange(self, target: CountTarget, best: Solution) -> Solution:
        # add, drop and swap stages while that helps; which of these chains are worth a fit, some samples say
        while True:
            now = score(self._some.chain(best.stages), best.fit.thresholds)
            aim = CountTarget(correct=now.correct) if target.correct is not None else CountTarget(cost=now.cost)
            known = dict(zip(best.stages, best.fit.thresholds, strict=True))
            rough = []
            for stages in {*self.table.exchanges(best.stages), *self.table.extensions(best.stages)} - {()}:
                start = np.array([known.get(stage, NEVER_EXIT) for stage in stages], dtype=np.float32)
                chain = self._some.chain(stages)
                rough.append((aim.fit_key(fit := relax(chain, aim, score(chain, start))), stages, fit.thresholds))
            rough.sort(key=lambda item: item[:2])
            for _, stages, thresholds in rough[: self.options.beam_width // 2]:
                chain = self.outcomes.chain(stages)
                found = Solution(stages, polish(chain, target, score(chain, thresholds)))
                if target.fit_key(found.fit) < target.fit_key(best.fit):
                    best = found
                    break
            else:
                return best

    @functools.cached_property
    def _some(self) -> OutcomeCache:
        rows = subsample(len(self.records), SOME_ROWS, self.options.seed)
        return OutcomeCache(self.records.take(rows), self.options.fuse)

    def _spread(self, target: CountTarget, found: Solution) -> Solution:
        width = self.options.beam_width
        starts = min(width, self._affordable(len(found.stages)) // width)
        if not starts:
            return found
        return Solution(found.stages, spread(self.outcomes.chain(found.stages), target, found.fit, starts))

    def _affordable(self, stages: int) -> int:
        # how many fits of chains of so many stages the budget allows
        return _BUDGET // (len(self.records) * stages)

    def _proposals(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        # per goal, the chains worth a full fit, the backbone alone among them
        if self._all_chains is not None:
            return [[Proposal(stages) for stages in self._all_chains] for _ in goals]
        if self._has_path and self.table.exits:
            return self._path_proposals(goals)
        return self._beam_proposals(goals)

    def _path_proposals(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        found = undominated([*self._path_solutions(_PATH_POINTS, goals), self._backbone_alone()])
        pools = []
        for goal in goals:
            target = count_target(self.outcomes, goal)
            keys = [target.fit_key(solution.fit) for solution in found]
            # the best that meets the goal and its neighbors on the front, which may meet it with other thresholds
            best = min(range(len(found)), key=keys.__getitem__)
            near = [solution for solution in found[max(0, best - 1) : best + 2] if solution.stages]
            starts = [Proposal(each.stages, tuple(each.fit.thresholds.tolist())) for each in near]
            singles = [
                Proposal((stage,)) for stage in range(self.outcomes.final) if self.table.is_valid_chain((stage,))
            ]
            pools.append([Proposal(()), *singles, *starts])
        return pools

    def _path_solutions(self, points: int, goals: Sequence[Goal]) -> list[Solution]:
        found = []
        for stages in self._path_stages(goals):
            free = tuple(s for s in stages if not self.table.required_savers((s,)))
            path = TradeoffPath(self.outcomes, free, seed=self.options.seed)
            found += [Solution(*each) for each in path.front(points)]
            for saver in self.table.required_savers(stages) & set(stages):
                found += self._path_behind(saver, stages, points)
        return found

    def _path_behind(self, saver: int, stages: Stages, points: int) -> list[Solution]:
        # chains in which a saver always runs, so that every stage that requires it may be used
        found = []
        view = OutcomeCache(with_saver_always_on(self.records, saver), self.options.fuse)
        for chain, fit in TradeoffPath(view, stages, seed=self.options.seed).front(points):
            chain, thresholds = insert_saver(saver, chain, fit.thresholds)
            found.append(Solution(chain, score(self.outcomes.chain(chain), thresholds)))
        return found

    def _path_stages(self, goals: Sequence[Goal]) -> list[Stages]:
        # a path does not bound the number of savers: give it sets of savers that keep the bound
        savers, exits, max_savers = self.table.savers, self.table.exits, self.table.max_savers
        if max_savers is None or len(savers) <= max_savers:
            return [(*savers, *exits)]
        if max_savers == 0:
            return [exits]
        names = [self.records.stages[s] for s in savers]
        savers_only = Search(self.records.select(names), self.options)
        best = {pool[1].stages if len(pool) > 1 else () for pool in savers_only._beam_proposals(goals)}
        return [(*(savers[s] for s in stages), *exits) for stages in sorted(best)]

    def _beam_proposals(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        best = self._beam.best(goals, self.options.beam_width)
        return [[Proposal(()), *map(Proposal, chains)] for chains in best]

    @functools.cached_property
    def _all_chains(self) -> list[Stages] | None:
        # all valid chains, if one table could hold those of all
        found: list[Stages] = [()]
        layer: list[Stages] = [()]
        while layer:
            layer = self.table.longer(layer)
            found += layer
            if sum(most_cells(len(self.records), len(stages)) for stages in found) > MAX_CELLS:
                return None
        return found

    def configuration(self, solution: Solution) -> Configuration:
        """Return a solution as a configuration.

        Args:
            solution: A chain and its thresholds.

        Returns:
            The configuration without stages that no sample reaches, and, without fused evidence, without those where
            none exits and that no other stage requires.
        """
        chain = self.outcomes.chain(solution.stages)
        reached = np.ones(chain.samples, dtype=bool)
        stages, used = [], set()
        for stage, sure, threshold in zip(solution.stages, chain.confidence, solution.fit.thresholds, strict=True):
            if not reached.any():
                break
            leaves = reached & (sure > threshold)
            if not self._separable or leaves.any():
                used.add(stage)
            stages.append((stage, float(threshold)))
            reached &= ~leaves
        used |= self.table.required_savers(used)
        kept = tuple((self.records.stages[s], threshold) for s, threshold in stages if s in used)
        return Configuration(kept, self.options.fuse.of_stages(name for name, _ in kept))


def _best(target: CountTarget, known: list[Solution]) -> Solution | None:
    best = min(known, key=lambda solution: target.fit_key(solution.fit), default=None)
    return best if best is not None and np.isfinite(target.fit_key(best.fit)[0]) else None


def undominated(found: list[Solution]) -> list[Solution]:
    """Return the solutions that no other beats in correct answers and cost, from cheap to expensive."""
    front: list[Solution] = []
    for solution in sorted(found, key=lambda s: (s.fit.cost, -s.fit.correct, s.stages)):
        if not front or solution.fit.correct > front[-1].fit.correct:
            front.append(solution)
    return front


def _widest_gaps(found: list[Solution], count: int) -> list[tuple[Solution, list[float]]]:
    # (the more accurate end of a gap, how many correct answers below it to aim), so that the widest gaps shrink most
    pairs = zip(found, found[1:], strict=False)
    gaps = [(high.fit.correct - low.fit.correct, high) for low, high in pairs if high.stages]
    parts = [1] * len(gaps)
    for _ in range(count if gaps else 0):
        parts[max(range(len(gaps)), key=lambda i: gaps[i][0] / parts[i])] += 1
    split = [(high, gap, n) for (gap, high), n in zip(gaps, parts, strict=True) if n > 1]
    return [(high, [gap * k / n for k in range(1, n)]) for high, gap, n in split]
