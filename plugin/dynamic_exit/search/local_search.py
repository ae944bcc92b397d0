"""Exchanges of single stages: another head at a position, a stage more, a stage less.

A tradeoff path finds only the chains of a convex front; between two of its points another head may be better. Every
exchange is evaluated on some of the samples; the best are then fitted on all.
"""

from collections.abc import Iterator

import numpy as np

from ..records.stage_table import Stages, StageTable
from .options import SearchOptions
from .outcomes import ApproximateOutcomes, OutcomeCache
from .splits import subsample
from .targets import CountTarget, Fit
from .thresholds import polish, relax, score

_ROWS = 6_000
_FITTED_EXCHANGES = 3
_MAX_ROUNDS = 3


class Exchange:
    """Improves chains without fused evidence.

    Args:
        outcomes: All samples, of a rule that is separable by stage.
        table: Its stages; says which chains there are.
        options: Of the search; the seed decides which samples exchanges are evaluated on, if there are more.
    """

    def __init__(self, outcomes: OutcomeCache, table: StageTable, options: SearchOptions) -> None:
        self.outcomes, self.table = outcomes, table
        rows = subsample(len(outcomes.records), _ROWS, options.seed)
        self.coarse = ApproximateOutcomes(outcomes.records, options.fuse, rows)

    def improve(self, target: CountTarget, stages: Stages, fit: Fit) -> tuple[Stages, Fit]:
        """Exchange stages until that does not help, a few times at most.

        Args:
            target: The goal, in counts over all samples.
            stages: The chain.
            fit: Its thresholds; they meet the target.

        Returns:
            A chain and thresholds at least as good.
        """
        for _ in range(_MAX_ROUNDS):
            best = stages, fit
            for others, thresholds in self._promising(target, stages, fit):
                chain = self.outcomes.chain(others)
                found = polish(chain, target, score(chain, thresholds))
                best = min(best, (others, found), key=lambda pair: target.fit_key(pair[1]))
            if best[1] is fit:
                break
            stages, fit = best
        return stages, fit

    def _promising(self, target: CountTarget, stages: Stages, fit: Fit) -> list[tuple[Stages, np.ndarray]]:
        # at the counts of the chain on the coarse samples: the target itself is about all samples
        now = score(self.coarse.chain(stages), fit.thresholds)
        coarse = CountTarget(correct=now.correct) if target.correct is not None else CountTarget(cost=now.cost)
        tried = []
        for others, start in self._neighbors(stages, fit.thresholds):
            chain = self.coarse.chain(others)
            found = relax(chain, coarse, score(chain, start)) if others else score(chain, start)
            tried.append((coarse.fit_key(found), others, found.thresholds))
        tried.sort(key=lambda item: item[:2])
        return [(others, thresholds) for _, others, thresholds in tried[:_FITTED_EXCHANGES] if others]

    def _neighbors(self, stages: Stages, thresholds: np.ndarray) -> Iterator[tuple[Stages, np.ndarray]]:
        known = dict(zip(stages, thresholds, strict=True))
        for chain in self.table.extensions(stages):
            # no sample exits at the new stage until moves find which should
            yield chain, self._thresholds(chain, known, 0.0)
        for stage in stages:
            rest = tuple(s for s in stages if s != stage)
            if not self.table.is_valid_chain(rest):
                continue
            yield rest, self._thresholds(rest, known, 0.0)
            leaving = float((self.coarse.recorded.own_answers(stage, slice(None))[1] > known[stage]).mean())
            for chain in self.table.extensions(rest):
                if stage not in chain:
                    yield chain, self._thresholds(chain, known, leaving)

    def _thresholds(self, stages: Stages, known: dict[int, np.float32], leaving: float) -> np.ndarray:
        # at a new stage the same share of samples exits as at the stage that it replaces
        def at(stage: int) -> np.float32:
            return np.quantile(self.coarse.recorded.own_answers(stage, slice(None))[1], 1 - leaving)

        new = [known[s] if s in known else at(s) for s in stages]
        return np.array(new, dtype=np.float32)
