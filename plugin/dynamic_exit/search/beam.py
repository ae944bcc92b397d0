"""Which chains are worth exact thresholds: a beam search over chains, on coarse grids and a part of the samples.

All pairs are evaluated while they are few enough; longer chains extend the best ones. Many chains are evaluated on few
samples first and only the better ones on more (successive halving, arXiv 1502.07943).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..points.goal import Goal
from ..records import Records
from ..records.stage_table import Stages
from .options import SearchOptions
from .outcomes import FEW_ROWS, SOME_ROWS, ApproximateOutcomes, OutcomeCache
from .table import Table, grid_for
from .targets import CountTarget, count_target

# of more chains than these, as many per goal go on from few samples to more
_MANY_CHAINS = 200
# with more savers than these, only the best are searched
_SHORTLIST = 16

_Scores = dict[Stages, list[tuple[float, float]]]


class Beam:
    """Searches for good chains.

    Args:
        records: The samples to search on.
        options: Of the search; ``beam_width`` chains of each length are kept per goal.
        rows: How many samples are used, at most.
        screened: Of more chains than these, as many per goal go on from few samples to all that are used.
    """

    def __init__(
        self, records: Records, options: SearchOptions, *, rows: int = SOME_ROWS, screened: int = _MANY_CHAINS
    ) -> None:
        self.records, self.table, self.options, self.screened = records, options.table_of(records), options, screened
        order = np.random.default_rng(options.seed).permutation(len(records))
        # from few samples to many, each level part of the next
        sizes = [size for size in (FEW_ROWS, rows) if 2 * size < len(records) or size == rows]
        self.levels = [ApproximateOutcomes(records, options.fuse, np.sort(order[:size])) for size in sizes]

    def best(self, goals: Sequence[Goal], most: int) -> list[list[Stages]]:
        """Search for every goal.

        Args:
            goals: What to reach.
            most: How many chains per goal at most.

        Returns:
            Per goal, chains of at least one stage, the best first.
        """
        targets = [[count_target(level, goal) for goal in goals] for level in self.levels]
        scores: _Scores = {(): fit_all(self.levels[-1], (), targets[-1])}
        layer: list[Stages] = [()]
        while layer:
            layer = self._select(self._evaluate(set(self.table.longer(layer)), targets, scores), scores)
        return [[stages for stages in ranked if stages] for ranked in rank(scores, most)]

    def _evaluate(self, chains: set[Stages], targets: list[list[CountTarget]], scores: _Scores) -> set[Stages]:
        # adds the scores of the better chains on the larger sample, and returns these chains
        for level, level_targets in zip(self.levels[:-1], targets[:-1], strict=True):
            if len(chains) > self.screened:
                rough = {stages: fit_all(level, stages, level_targets) for stages in sorted(chains)}
                chains = {stages for ranked in rank(rough, self.screened) for stages in ranked}
        for stages in sorted(chains):
            scores[stages] = fit_all(self.levels[-1], stages, targets[-1])
        return chains

    def _select(self, longer: set[Stages], scores: _Scores) -> list[Stages]:
        # one stage alone may not pay off where two do
        alone = all(len(stages) == 1 for stages in longer)
        width = max(self.options.beam_width, self.screened) if alone else self.options.beam_width
        keep: set[Stages] = set()
        for goal, ranked in enumerate(rank({stages: scores[stages] for stages in longer}, width)):
            bound = min(scores[stages][goal][0] for stages in scores if stages not in longer)
            keep.update(s for s in ranked if alone or scores[s][goal][0] < bound)
        return sorted(keep)


def shortlist(records: Records, goals: Sequence[Goal], options: SearchOptions) -> Records:
    """Return the records of the savers that good chains are made of.

    Args:
        records: The samples to search on.
        goals: What to reach.
        options: Of the search.

    Returns:
        The savers of the best chains, the cheapest and the most accurate one, and every exit; all if savers are few.
    """
    savers = records.stage_table.savers
    if len(savers) <= _SHORTLIST:
        return records
    beam = Beam(records, replace(options, beam_width=_SHORTLIST))
    own = options.fuse.on(records)
    accurate = max(savers, key=lambda s: float(own.worth((s,), records.topk_classes[s, :, 0].astype(np.int64)).sum()))
    keep = {min(savers, key=lambda s: float(records.own_cost[s])), accurate}
    for stages in _in_turn(beam.best(goals, len(savers) ** 2)):
        new = keep.union(s for s in stages if s in savers)
        keep = new if len(new) <= _SHORTLIST else keep
    return records.select([name for s, name in enumerate(records.stages) if s in keep or s not in savers])


def _in_turn(ranked: list[list[Stages]]) -> Iterable[Stages]:
    # the best chain of every goal and length, then the second best: the best chains of one length are all alike
    turns: dict[tuple[int, int], int] = {}
    order = []
    for goal, chains in enumerate(ranked):
        for stages in chains:
            turn = turns[goal, len(stages)] = turns.get((goal, len(stages)), -1) + 1
            order.append((turn, -len(stages), goal, stages))
    return (stages for *_, stages in sorted(order))


def fit_all(outcomes: OutcomeCache, stages: Stages, targets: list[CountTarget]) -> list[tuple[float, float]]:
    """Return the key of each target at the best thresholds on a coarse grid; infinite where the target is missed."""
    chain = outcomes.chain(stages)
    grids, _ = grid_for(chain)
    if grids is None:
        return [(np.inf, np.inf)] * len(targets)
    table = Table(chain, grids)
    fits = [(target, table.fit(target)) for target in targets]
    return [target.fit_key(fit) if fit is not None else (np.inf, np.inf) for target, fit in fits]


def rank(scores: _Scores, most: int) -> list[list[Stages]]:
    """Return the best chains per goal, the best first."""
    goals = range(len(next(iter(scores.values()), ())))
    return [sorted(scores, key=lambda stages: (scores[stages][goal], stages))[:most] for goal in goals]
