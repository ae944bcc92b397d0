"""Which stages to use, and their thresholds, for each of some goals.

Few chains: all of them. No fused evidence: the front of ``path``. Else a beam search over chains. Whatever stages come
out, ``fit`` then sets their thresholds for the goal itself.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chain.evaluation import Configuration
from ..chain.operating_point import Goal
from ..records import Records
from .beam import Beam, Stages, count_target, extensions
from .dependencies import insert_saver, required_savers, with_saver_always_on
from .local_search import Exchange
from .outcomes import OutcomeCache, subsample
from .table import TABLE_CELLS, CountTarget, Fit
from .thresholds import polish, relax, restart, rough_fits, score, spread
from .tradeoff import TradeoffPath

# chains are few when all their tables together are not larger than this
_EXHAUSTIVE_CELLS = 1 << 21
_PATH_POINTS = 40
_ANY_COST = 1e6
# so many chains of the beam get a full fit, all goals together, but not fewer a goal than the beam is wide
_WIDE = 32
_FILL_ROWS = 8_000
# so many of the best start again from so many places of the grid, up to so many stages times samples
_ELSEWHERE = 3
_STARTS = 12
_SPREAD_SIZE = 150_000
# where all stages times samples are cheap: more starts, more chains that are polished, chains that no path leads to
_CHEAP_SIZE = 10_000
_RESTARTS = 6
_POLISHED_WHERE_CHEAP = 64
_SHORT_CHAINS = 200
# where they are tiny: all chains beside the path's
_TINY_SIZE = 2_000
_EXHAUSTIVE_CELLS_WHERE_TINY = 1 << 25


@dataclass(frozen=True)
class Solution:
    """A chain fitted to a goal.

    Attributes:
        stages: Places in the records' chain, without the final.
        fit: Its thresholds and their counts on the samples searched.
    """

    stages: Stages
    fit: Fit


@dataclass(frozen=True)
class Proposal:
    """A chain worth fitting, perhaps with thresholds to start from."""

    stages: Stages
    start: tuple[float, ...] | None = None


class Search:
    """The search on one set of records.

    Args:
        records: The samples to search on.
        fuse: ``none`` or ``mean``.
        max_savers: At most so many savers in use; any number if None.
        seed: Decides which samples the coarse looks use.
        beam: How many chains of each length are kept per goal at least; more where goals are few.
        max_stages: The longest chain that the beam looks at.
        polished: How many chains per goal get exact thresholds; all where that is cheap, unless `restarts` is 0.
        restarts: How many times the best starts anew where that is cheap.
    """

    def __init__(
        self,
        records: Records,
        fuse: str = "none",
        *,
        max_savers: int | None = None,
        seed: int = 0,
        beam: int = 4,
        max_stages: int = 6,
        polished: int = 12,
        restarts: int = _RESTARTS,
    ) -> None:
        self.records = records
        self.outcomes = OutcomeCache(records, fuse)
        self.fuse, self.max_savers, self.seed = fuse, max_savers, seed
        self.beam, self.max_stages, self.polished, self.restarts = beam, max_stages, polished, restarts

    def run(self, goals: Sequence[Goal]) -> list[Solution | None]:
        """Search for every goal.

        Args:
            goals: What to reach on these samples.

        Returns:
            The best found per goal; None where nothing meets it.
        """
        targets = [count_target(self.outcomes, goal) for goal in goals]
        found = self._finish(targets, self._pools(goals))
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            # what is most accurate may meet a goal that the way to it missed
            known.append(self.most_accurate())
        # what one goal found may be better for another
        return [_meeting(goal, known) for goal in targets]

    def most_accurate(self) -> Solution:
        """Search for the most right answers at any cost."""
        anything = Goal(budget=_ANY_COST)
        return self._finish([count_target(self.outcomes, anything)], self._pools([anything]))[0]

    def front(self, points: int) -> list[Solution]:
        """Search for the whole front.

        Args:
            points: How many at most, at least 2.

        Returns:
            Found chains, none dominated, from cheap to dear.
        """
        if self.fuse == "none" and self._all_chains is None:
            found = self._path_found(points)
            found.append(Solution((), score(self.outcomes.chain(()), np.empty(0, dtype=np.float32))))
            return self._filled(undominated(found), points)
        low, high = self.outcomes.correct_range()
        room = max(high - low, 1) / len(self.records)
        # more goals where little is lost, and some where accuracy is gained
        shares = np.linspace(-0.3, 1, points)
        goals = [Goal(max_accuracy_drop=float(room * share * abs(share))) for share in shares]
        return undominated([f for f in self.run(goals) if f is not None])

    def _filled(self, found: list[Solution], points: int) -> list[Solution]:
        # best trade-offs lie on a convex curve; between two of them, relax the thresholds of the more accurate one
        samples = len(self.records)
        rows = subsample(samples, _FILL_ROWS, self.seed)
        new: list[Solution] = []
        for accurate, lower in _widest_gaps(found, points - len(found)):
            chain = self.outcomes.chain(accurate.stages)
            coarse = chain.take(rows)
            relaxed = score(coarse, accurate.fit.thresholds)
            correct = relaxed.correct
            for less in lower:
                relaxed = relax(coarse, CountTarget(correct=correct - less * len(rows) / samples), relaxed)
                new.append(Solution(accurate.stages, score(chain, relaxed.thresholds)))
        return undominated(found + new)

    def _finish(self, targets: list[CountTarget], pools: list[list[Proposal]]) -> list[Solution | None]:
        # rough fits of every candidate, one table for all goals that share it; the best few are then polished
        users: dict[Proposal, list[int]] = {}
        for goal, pool in enumerate(pools):
            for candidate in pool:
                users.setdefault(candidate, []).append(goal)
        rough: list[list[tuple[Solution, bool]]] = [[] for _ in targets]
        for candidate, goals in users.items():
            start = None if candidate.start is None else np.array(candidate.start, dtype=np.float32)
            chain = self.outcomes.chain(candidate.stages)
            fits, exact = rough_fits(chain, [targets[goal] for goal in goals], start)
            for goal, fitted in zip(goals, fits, strict=True):
                if fitted is not None:
                    rough[goal].append((Solution(candidate.stages, fitted), exact))
        return [self._polished(goal, found) for goal, found in zip(targets, rough, strict=True)]

    def _polished(self, goal: CountTarget, rough: list[tuple[Solution, bool]]) -> Solution | None:
        rough.sort(key=lambda item: (_key(goal, item[0].fit), item[0].stages))
        # grids are coarser for longer chains, so the first is not always the best: look at more where that is cheap
        polished = max(self.polished, _POLISHED_WHERE_CHEAP) if self._cheap else self.polished
        tried = []
        for rank, (found, exact) in enumerate(rough):
            if not exact and found.stages and rank < polished:
                found = Solution(found.stages, polish(self.outcomes.chain(found.stages), goal, found.fit))
            tried.append((found, exact or len(found.stages) < 2))
        tried.sort(key=lambda item: _key(goal, item[0].fit))
        if self.restarts > 0:
            tried[:_ELSEWHERE] = [(f if e else self._from_elsewhere(goal, f), e) for f, e in tried[:_ELSEWHERE]]
        best = _meeting(goal, [found for found, _ in tried])
        if best is None or not best.stages or self._exchange is None:
            return best
        return Solution(*self._exchange.improve(goal, best.stages, best.fit))

    @functools.cached_property
    def _exchange(self) -> Exchange | None:
        # where chains come from a path, whose front is convex
        every = self.fuse == "mean" or "exit" not in self.records.kinds or self._all_chains is not None
        return None if every or self.restarts == 0 else Exchange(self.outcomes, self.max_savers, self.seed)

    def _from_elsewhere(self, goal: CountTarget, found: Solution) -> Solution:
        chain, fit = self.outcomes.chain(found.stages), found.fit
        if len(self.records) * len(found.stages) <= _SPREAD_SIZE:
            fit = spread(chain, goal, fit, _STARTS)
        if self._cheap:
            fit = restart(chain, goal, fit, self.restarts, self.seed)
        return Solution(found.stages, fit)

    @property
    def _cheap(self) -> bool:
        return self._size <= _CHEAP_SIZE

    @property
    def _tiny(self) -> bool:
        return self._size <= _TINY_SIZE

    @property
    def _size(self) -> float:
        return len(self.records) * (self.outcomes.final + 1) if self.restarts > 0 else np.inf

    def _pools(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        # per goal, the chains worth a full fit, the backbone alone among them
        every = self._all_chains
        pools: list[list[Proposal]] = [[] for _ in goals]
        if self.fuse == "none" and "exit" in self.records.kinds and (every is None or self._tiny):
            pools = self._path_pools(goals)
            # a path ends where no change of one stage helps: better chains may lie beyond
            every = every or (self._short_chains() if self._cheap else [])
        if every is None:
            return self._beam_pools(goals)
        return [pool + [Proposal(stages) for stages in every] for pool in pools]

    def _path_pools(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        found = self._path_found(_PATH_POINTS)
        found.append(Solution((), score(self.outcomes.chain(()), np.empty(0, dtype=np.float32))))
        found = undominated(found)
        pools = []
        for goal in goals:
            keys = [_key(count_target(self.outcomes, goal), f.fit) for f in found]
            # the best that meets the goal and its neighbours on the front, which may meet it with other thresholds
            best = min(range(len(found)), key=keys.__getitem__)
            near = [f for f in found[max(0, best - 2) : best + 3] if f.stages]
            pools.append([Proposal(()), *(Proposal(f.stages, tuple(f.fit.thresholds.tolist())) for f in near)])
        return pools

    def _path_found(self, points: int) -> list[Solution]:
        found = []
        for stages in self._path_stages():
            free = tuple(s for s in stages if not required_savers(self.records, (s,)))
            found += [Solution(*f) for f in TradeoffPath(self.outcomes, free, seed=self.seed).front(points)]
            for saver in required_savers(self.records, stages) & set(stages):
                found += self._behind(saver, stages, points)
        return found

    def _behind(self, saver: int, stages: Stages, points: int) -> list[Solution]:
        # chains in which a saver runs always, so that every stage that needs it may be used
        found = []
        view = OutcomeCache(with_saver_always_on(self.records, saver), self.fuse)
        for chain, fit in TradeoffPath(view, stages, seed=self.seed).front(points):
            chain, thresholds = insert_saver(saver, chain, fit.thresholds)
            found.append(Solution(chain, score(self.outcomes.chain(chain), thresholds)))
        return found

    def _path_stages(self) -> list[Stages]:
        # the path has no bound on savers: give it sets of savers that keep it
        savers = [s for s, kind in enumerate(self.records.kinds) if kind == "saver"]
        exits = [s for s, kind in enumerate(self.records.kinds) if kind == "exit"]
        if self.max_savers is None or len(savers) <= self.max_savers:
            return [tuple([*savers, *exits])]
        if self.max_savers == 0:
            return [tuple(exits)]
        names = [self.records.stages[s] for s in savers]
        alone = Search(self.records.select(names), "none", max_savers=self.max_savers, seed=self.seed)
        goals = [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.01, 0.03)]
        best = {pool[1].stages if len(pool) > 1 else () for pool in alone._beam_pools(goals)}
        return [tuple([*(savers[s] for s in stages), *exits]) for stages in sorted(best)]

    def _beam_pools(self, goals: Sequence[Goal]) -> list[list[Proposal]]:
        width = max(self.beam, _WIDE // len(goals))
        options = {"max_savers": self.max_savers, "max_stages": self.max_stages, "seed": self.seed}
        beam = Beam(self.records, self.fuse, width=width, **options)
        return [[Proposal(()), *map(Proposal, stages)] for stages in beam.best(goals, width)]

    def _short_chains(self) -> list[Stages]:
        # chains of few stages, as long as they are few
        found, layer = [], [()]
        while layer:
            layer = sorted({chain for stages in layer for chain in extensions(self.records, stages, self.max_savers)})
            if len(found) + len(layer) > _SHORT_CHAINS:
                break
            found += layer
        return found

    @functools.cached_property
    def _all_chains(self) -> list[Stages] | None:
        # every chain that the rules allow, if they are few
        most = _EXHAUSTIVE_CELLS_WHERE_TINY if self._tiny else _EXHAUSTIVE_CELLS
        found, layer = [()], [()]
        while layer:
            layer = sorted({chain for stages in layer for chain in extensions(self.records, stages, self.max_savers)})
            found += layer
            if sum(min(TABLE_CELLS, (len(self.records) + 1) ** len(stages)) for stages in found) > most:
                return None
        return found

    def configuration(self, found: Solution) -> Configuration:
        """Return what was found as a configuration.

        Args:
            found: A chain and its thresholds.

        Returns:
            The configuration without what no sample reaches, and without fused evidence what none leaves at and no
            other stage needs.
        """
        chain = self.outcomes.chain(found.stages)
        reached = np.ones(chain.samples, dtype=bool)
        stages, used = [], set()
        for stage, sure, threshold in zip(found.stages, chain.confidence, found.fit.thresholds, strict=True):
            if not reached.any():
                break
            leaves = reached & (sure > threshold)
            if self.fuse == "mean" or leaves.any():
                used.add(stage)
            stages.append((stage, float(threshold)))
            reached &= ~leaves
        used |= required_savers(self.records, used)
        return Configuration(tuple((self.records.stages[s], limit) for s, limit in stages if s in used), self.fuse)


def _meeting(goal: CountTarget, known: list[Solution]) -> Solution | None:
    best = min(known, key=lambda found: _key(goal, found.fit), default=None)
    return best if best is not None and np.isfinite(_key(goal, best.fit)[0]) else None


def undominated(found: list[Solution]) -> list[Solution]:
    """Return those that no other beats in right answers and cost, from cheap to dear."""
    front: list[Solution] = []
    for f in sorted(found, key=lambda f: (f.fit.cost, -f.fit.correct, f.stages)):
        if not front or f.fit.correct > front[-1].fit.correct:
            front.append(f)
    return front


def _widest_gaps(found: list[Solution], wanted: int) -> list[tuple[Solution, list[float]]]:
    # (the more accurate end of a gap, how many right answers below it to aim), so that the widest gaps shrink most
    gaps = [
        (high.fit.correct - low.fit.correct, high) for low, high in zip(found, found[1:], strict=False) if high.stages
    ]
    parts = [1] * len(gaps)
    for _ in range(wanted if gaps else 0):
        parts[max(range(len(gaps)), key=lambda i: gaps[i][0] / parts[i])] += 1
    split = [(high, gap, n) for (gap, high), n in zip(gaps, parts, strict=True) if n > 1]
    return [(high, [gap * k / n for k in range(1, n)]) for high, gap, n in split]


def _key(goal: CountTarget, fitted: Fit) -> tuple[float, float]:
    return goal.key(fitted.correct, fitted.cost)
