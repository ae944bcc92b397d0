"""Which stages to use, and their thresholds, for each of several goals.

If chains are few, all of them are fitted. Without fused evidence, chains come from the front of a `TradeoffPath`. Else
they come from a beam search. Wherever they come from, their thresholds are then fitted to the goal itself; on a path,
single stages of the best are added, dropped and swapped while that helps.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..chain.thresholds import NEVER_EXIT, Configuration
from ..points.goal import Goal
from ..records import Records
from ..records.splits import subsample
from ..records.stage_table import Stages
from .beam import Beam
from .dependencies import insert_saver, with_saver_always_on
from .options import SearchOptions
from .outcomes import OutcomeCache
from .table import TABLE_CELLS
from .targets import CountTarget, Fit, count_target
from .thresholds import polish, relax, restart, rough_fits, score, spread
from .tradeoff import TradeoffPath

# chains are few if all their tables together are not larger than this
_EXHAUSTIVE_CELLS = 1 << 21
_PATH_POINTS = 40
_FILL_ROWS = 8_000
# so many chains of the beam get a full fit, all goals together, but not fewer per goal than the beam is wide
_MAX_BEAM_CHAINS = 32
# so many of the best chains restart from so many points of the grid, up to so many stages times samples
_SPREAD_CHAINS = 3
_SPREAD_STARTS = 12
_MAX_SPREAD_SIZE = 150_000
# up to so many stages times samples: more starts, more exact fits
_CHEAP_SIZE = 10_000
_EXACT_FITS_IF_CHEAP = 64
# up to so many: all chains beside those of the path
_TINY_SIZE = 2_000
_EXHAUSTIVE_CELLS_IF_TINY = 1 << 25


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
        self._has_path = self._separable and self.outcomes.is_counted

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
            found = [*self._path_solutions(points), self._backbone_alone()]
            return self._fill_gaps(undominated(found), points)
        low, high = self.outcomes.correct_range()
        room = max(high - low, 1) / len(self.records)
        # more goals where little is lost, and some where accuracy is gained
        shares = np.linspace(-0.3, 1, points)
        goals = [Goal(max_accuracy_drop=float(room * share * abs(share))) for share in shares]
        return undominated([solution for solution in self.run(goals) if solution is not None])

    def _backbone_alone(self) -> Solution:
        return Solution((), score(self.outcomes.chain(()), np.empty(0, dtype=np.float32)))

    def _fill_gaps(self, found: list[Solution], points: int) -> list[Solution]:
        # the points of a path lie on a convex curve; between two of them, relax the thresholds of the more accurate one
        samples = len(self.records)
        rows = subsample(samples, _FILL_ROWS, self.options.seed)
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
                if fit is not None:
                    rough[goal].append((Solution(proposal.stages, fit), exact))
        return [self._polish(target, solutions) for target, solutions in zip(targets, rough, strict=True)]

    def _polish(self, target: CountTarget, rough: list[tuple[Solution, bool]]) -> Solution | None:
        rough.sort(key=lambda item: (target.fit_key(item[0].fit), item[0].stages))
        # grids are coarser for longer chains, so the first is not always the best: polish more where that is cheap
        exact_fits = max(self.options.exact_fits, _EXACT_FITS_IF_CHEAP) if self._cheap else self.options.exact_fits
        tried = []
        for position, (found, exact) in enumerate(rough):
            if not exact and found.stages and position < exact_fits:
                found = Solution(found.stages, polish(self.outcomes.chain(found.stages), target, found.fit))
            tried.append((found, exact or len(found.stages) < 2))
        tried.sort(key=lambda item: target.fit_key(item[0].fit))
        if self._thorough:
            best_few = tried[:_SPREAD_CHAINS]
            tried[:_SPREAD_CHAINS] = [(f if exact else self._restart(target, f), exact) for f, exact in best_few]
        best = _best(target, [found for found, _ in tried])
        return self._exchange(target, best) if best is not None and self._has_path and self._thorough else best

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
            tried = [best]
            for _, stages, thresholds in rough[:_SPREAD_CHAINS]:
                chain = self.outcomes.chain(stages)
                tried.append(Solution(stages, polish(chain, target, score(chain, thresholds))))
            found = _best(target, tried)
            if found is None or found is best:
                return best
            best = found

    @functools.cached_property
    def _some(self) -> OutcomeCache:
        rows = subsample(len(self.records), _FILL_ROWS, self.options.seed)
        return OutcomeCache(self.records.take(rows), self.options.fuse)

    def _restart(self, target: CountTarget, found: Solution) -> Solution:
        chain, fit = self.outcomes.chain(found.stages), found.fit
        if len(self.records) * len(found.stages) <= _MAX_SPREAD_SIZE:
            fit = spread(chain, target, fit, _SPREAD_STARTS)
        if self._cheap:
            fit = restart(chain, target, fit, self.options.restarts, self.options.seed)
        return Solution(found.stages, fit)

    @property
    def _thorough(self) -> bool:
        return self.options.restarts > 0

    @property
    def _cheap(self) -> bool:
        return self._size <= _CHEAP_SIZE

    @property
    def _tiny(self) -> bool:
        return self._size <= _TINY_SIZE

    @property
    def _size(self) -> float:
        return len(self.records) * len(self.table) if self._thorough else np.inf

    def _proposals(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        # per goal, the chains worth a full fit, the backbone alone among them
        every = self._all_chains
        pools: list[list[Proposal]] = [[] for _ in goals]
        if self._has_path and self.table.exits and (every is None or self._tiny):
            pools = self._path_proposals(goals)
            every = every or []
        if every is None:
            return self._beam_proposals(goals)
        return [pool + [Proposal(stages) for stages in every] for pool in pools]

    def _path_proposals(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        found = undominated([*self._path_solutions(_PATH_POINTS), self._backbone_alone()])
        pools = []
        for goal in goals:
            target = count_target(self.outcomes, goal)
            keys = [target.fit_key(solution.fit) for solution in found]
            # the best that meets the goal and its neighbors on the front, which may meet it with other thresholds
            best = min(range(len(found)), key=keys.__getitem__)
            near = [solution for solution in found[max(0, best - 2) : best + 3] if solution.stages]
            starts = [Proposal(each.stages, tuple(each.fit.thresholds.tolist())) for each in near]
            singles = [
                Proposal((stage,)) for stage in range(self.outcomes.final) if self.table.is_valid_chain((stage,))
            ]
            pools.append([Proposal(()), *singles, *starts])
        return pools

    def _path_solutions(self, points: int) -> list[Solution]:
        found = []
        for stages in self._path_stages():
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

    def _path_stages(self) -> list[Stages]:
        # a path does not bound the number of savers: give it sets of savers that keep the bound
        savers, exits, max_savers = self.table.savers, self.table.exits, self.table.max_savers
        if max_savers is None or len(savers) <= max_savers:
            return [(*savers, *exits)]
        if max_savers == 0:
            return [exits]
        names = [self.records.stages[s] for s in savers]
        options = SearchOptions(self.options.fuse, max_savers, self.options.seed)
        savers_only = Search(self.records.select(names), options)
        goals = [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.01, 0.03)]
        best = {pool[1].stages if len(pool) > 1 else () for pool in savers_only._beam_proposals(goals)}
        return [(*(savers[s] for s in stages), *exits) for stages in sorted(best)]

    def _beam_proposals(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        width = max(self.options.beam_width, _MAX_BEAM_CHAINS // len(goals))
        beam = Beam(self.records, replace(self.options, beam_width=width))
        return [[Proposal(()), *map(Proposal, chains)] for chains in beam.best(goals, width)]

    @functools.cached_property
    def _all_chains(self) -> list[Stages] | None:
        # all valid chains, if they are few
        most = _EXHAUSTIVE_CELLS_IF_TINY if self._tiny else _EXHAUSTIVE_CELLS
        found: list[Stages] = [()]
        layer: list[Stages] = [()]
        while layer:
            layer = self.table.longer(layer)
            found += layer
            if sum(min(TABLE_CELLS, (len(self.records) + 1) ** len(stages)) for stages in found) > most:
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
