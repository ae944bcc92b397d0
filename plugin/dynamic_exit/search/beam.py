"""Which chains are worth exact thresholds: a beam search over chains, on coarse grids and a part of the samples.

All pairs are looked at while they are few enough; longer chains grow from the best. Many chains are judged on few
samples first and only the better ones on more (successive halving, arXiv 1502.07943). At the end single stages of the
best chains are exchanged and dropped.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ..chain.operating_point import Goal
from ..records import Records
from .dependencies import is_valid_chain
from .outcomes import ApproximateOutcomes, OutcomeCache
from .table import CountTarget, Table, grid_for

# a longer chain must save this share more to be looked at
_WORTH = 1e-4
# samples that many chains are judged on, then the best of them
_FEW_ROWS = 3_000
_ROWS = 12_000
_SCREENED = 200
# all pairs are looked at up to about so many, beyond that those of the best single stages
_PAIRS = 25_000
# a table for so many stages, the first for none; longer chains need more cells to be as fine
_CELLS = (1, 1 << 10, 1 << 12, 1 << 13)
_MOST_CELLS = 1 << 14
_EXCHANGES = 3
# pools beyond so many savers are cut to the best
_SHORTLIST = 16
# a drop of half a point of 2,000 samples is 10 samples, not 9.999...
_ROUNDING = 1e-9

Stages = tuple[int, ...]
_Scores = dict[Stages, list[tuple[float, float]]]


class Beam:
    """Looks for good chains.

    Args:
        records: The samples to search on.
        fuse: ``none`` or ``mean``.
        max_savers: At most so many savers in a chain; any number if None.
        max_stages: The longest chain to look at.
        width: How many chains of each length are kept per goal.
        seed: Decides which samples are used, if there are more.
        rows: So many samples are used.
        screened: Of more chains than these, as many per goal go on from few samples to all that are used.
    """

    def __init__(
        self,
        records: Records,
        fuse: str,
        *,
        max_savers: int | None = None,
        max_stages: int = 6,
        width: int = 4,
        seed: int = 0,
        rows: int = _ROWS,
        screened: int = _SCREENED,
    ) -> None:
        self.records, self.max_savers, self.max_stages = records, max_savers, max_stages
        self.width, self.screened = width, screened
        order = np.random.default_rng(seed).permutation(len(records))
        # from few samples to many, each part of the next
        sizes = [size for size in (_FEW_ROWS, rows) if 2 * size < len(records) or size == rows]
        self.levels = [ApproximateOutcomes(records, fuse, np.sort(order[:size])) for size in sizes]

    def best(self, goals: Sequence[Goal], most: int) -> list[list[Stages]]:
        """Search for every goal.

        Args:
            goals: What to reach.
            most: How many chains per goal at most.

        Returns:
            Per goal, chains of at least one stage, the best first.
        """
        targets = [[count_target(chains, goal) for goal in goals] for chains in self.levels]
        scores: _Scores = {(): fit_all(self.levels[-1], (), targets[-1])}
        layer: list[Stages] = [()]
        for length in range(1, self.max_stages + 1):
            grown = {chain for stages in layer for chain in extensions(self.records, stages, self.max_savers)}
            layer = self._kept(self._judged(grown - set(scores), targets, scores), scores, length)
            if not layer:
                break
        for _ in range(_EXCHANGES):
            best = {stages for ranked in rank(scores, self.width) for stages in ranked}
            moved = {chain for stages in best for chain in self._exchanged(stages)} - set(scores)
            if not moved or not self._improved(moved, targets, scores):
                break
        return [[stages for stages in ranked if stages] for ranked in rank(scores, most)]

    def _judged(self, chains: set[Stages], targets: list[list[CountTarget]], scores: _Scores) -> set[Stages]:
        # the better ones, whose scores on the larger sample are noted
        for chains_there, wanted in zip(self.levels[:-1], targets[:-1], strict=True):
            if len(chains) > self.screened:
                rough = {stages: fit_all(chains_there, stages, wanted) for stages in sorted(chains)}
                chains = {stages for ranked in rank(rough, self.screened) for stages in ranked}
        for stages in sorted(chains):
            scores[stages] = fit_all(self.levels[-1], stages, targets[-1])
        return chains

    def _kept(self, grown: set[Stages], scores: _Scores, length: int) -> list[Stages]:
        # one stage alone may not pay where two do
        width = max(self.width, 2 * _PAIRS // len(self.records.stages)) if length == 1 else self.width
        keep: set[Stages] = set()
        for goal, ranked in enumerate(rank({stages: scores[stages] for stages in grown}, width)):
            bound = min(scores[stages][goal][0] for stages in scores if stages not in grown)
            keep.update(s for s in ranked if length == 1 or scores[s][goal][0] < bound - _WORTH * abs(bound))
        return sorted(keep)

    def _improved(self, moved: set[Stages], targets: list[list[CountTarget]], scores: _Scores) -> bool:
        before = [scores[ranked[0]][goal] for goal, ranked in enumerate(rank(scores, 1))]
        self._judged(moved, targets, scores)
        return any(scores[r[0]][goal] < before[goal] for goal, r in enumerate(rank(scores, 1)))

    def _exchanged(self, stages: Stages) -> Iterable[Stages]:
        for stage in stages:
            rest = tuple(s for s in stages if s != stage)
            if not is_valid_chain(self.records, rest):
                continue
            yield rest
            yield from extensions(self.records, rest, self.max_savers)


def shortlist(records: Records, goals: Sequence[Goal], *, fuse: str, max_savers: int | None, seed: int) -> Records:
    """Return the records of the savers that good chains are made of.

    Args:
        records: The samples to search on.
        goals: What to reach.
        fuse: As for the search.
        max_savers: As for the search.
        seed: Decides which samples are used, if there are more.

    Returns:
        The savers of the best chains, the cheapest and the most accurate one, and every exit; all where savers are few.
    """
    savers = [s for s, kind in enumerate(records.kinds) if kind == "saver"]
    if len(savers) <= _SHORTLIST:
        return records
    beam = Beam(records, fuse, max_savers=max_savers, width=_SHORTLIST, seed=seed)
    accurate = max(savers, key=lambda s: int((records.topk_classes[s, :, 0] == records.truth).sum()))
    keep = {min(savers, key=lambda s: float(records.own_cost[s])), accurate}
    for stages in _in_turn(beam.best(goals, len(savers) ** 2)):
        new = keep.union(s for s in stages if records.kinds[s] == "saver")
        keep = new if len(new) <= _SHORTLIST else keep
    return records.select([name for s, name in enumerate(records.stages) if s in keep or s not in savers])


def _in_turn(ranked: list[list[Stages]]) -> Iterable[Stages]:
    # the best chain of every goal and length, then the second best: the best chains of a length are all alike
    turns: dict[tuple[int, int], int] = {}
    order = []
    for goal, chains in enumerate(ranked):
        for stages in chains:
            turn = turns[goal, len(stages)] = turns.get((goal, len(stages)), -1) + 1
            order.append((turn, -len(stages), goal, stages))
    return (stages for *_, stages in sorted(order))


def extensions(records: Records, stages: Stages, max_savers: int | None) -> Iterable[Stages]:
    """Return every chain with one stage more that the rules allow.

    Args:
        records: The records.
        stages: Places in the records' chain, rising, without the final.
        max_savers: At most so many savers; any number if None.

    Yields:
        Chains.
    """
    savers = sum(records.kinds[s] == "saver" for s in stages)
    taken = {int(records.positions[s]) for s in stages if records.kinds[s] == "exit"}
    for stage in range(len(records.stages) - 1):
        if stage in stages:
            continue
        if records.kinds[stage] == "saver":
            if max_savers is not None and savers >= max_savers:
                continue
        elif int(records.positions[stage]) in taken:
            continue
        chain = tuple(sorted((*stages, stage)))
        if is_valid_chain(records, chain):
            yield chain


def count_target(chains: OutcomeCache, goal: Goal) -> CountTarget:
    """Return a goal in counts over the samples of some chains."""
    samples = len(chains.records)
    if goal.budget is not None:
        return CountTarget(cost=goal.budget * chains.records.baseline_cost * samples)
    return CountTarget(correct=float(np.ceil(chains.baseline_correct - goal.max_accuracy_drop * samples - _ROUNDING)))


def fit_all(chains: OutcomeCache, stages: Stages, targets: list[CountTarget]) -> list[tuple[float, float]]:
    """Return what to minimise per goal, at the best thresholds on a coarse grid; infinite where the goal is missed."""
    chain = chains.chain(stages)
    cells = _CELLS[len(stages)] if len(stages) < len(_CELLS) else _MOST_CELLS
    fits = Table(chain, grid_for(chain, cells)[0]).fits(targets)
    return [n.key(f.correct, f.cost) if f is not None else (np.inf, np.inf) for n, f in zip(targets, fits, strict=True)]


def rank(scores: _Scores, most: int) -> list[list[Stages]]:
    """Return the best chains per goal, the best first."""
    goals = range(len(next(iter(scores.values()), ())))
    return [sorted(scores, key=lambda stages: (scores[stages][goal], stages))[:most] for goal in goals]
