"""Exchanges of single stages: another head at a position, a stage more, a stage less.

A path of trade-offs meets only the chains of a convex front; between two of its points another head may be the better
one. Every exchange is judged on some of the samples, the best are then fitted on all.
"""

from collections.abc import Iterator

import numpy as np

from .beam import Stages, extensions
from .dependencies import is_valid_chain
from .outcomes import ApproximateOutcomes, OutcomeCache, subsample
from .table import CountTarget, Fit
from .thresholds import polish, relax, score

_ROWS = 6_000
_FITTED = 3
_ROUNDS = 3


class Exchange:
    """Improves chains without fused evidence.

    Args:
        chains: All samples, made with ``fuse='none'``.
        max_savers: At most so many savers in a chain; any number if None.
        seed: Decides which samples exchanges are judged on, if there are more.
    """

    def __init__(self, chains: OutcomeCache, max_savers: int | None, seed: int) -> None:
        self.outcomes, self.max_savers = chains, max_savers
        self.coarse = ApproximateOutcomes(chains.records, "none", subsample(len(chains.records), _ROWS, seed))

    def improve(self, target: CountTarget, stages: Stages, fit: Fit) -> tuple[Stages, Fit]:
        """Exchange stages until that does not help, a few times at most.

        Args:
            need: The goal, in counts over all samples.
            stages: The chain.
            fit: Its thresholds; they meet the goal.

        Returns:
            A chain and thresholds at least as good.
        """
        for _ in range(_ROUNDS):
            best = stages, fit
            for others, thresholds in self._promising(target, stages, fit):
                chain = self.outcomes.chain(others)
                found = polish(chain, target, score(chain, thresholds))
                best = min(best, (others, found), key=lambda pair: target.key(pair[1].correct, pair[1].cost))
            if best[1] is fit:
                break
            stages, fit = best
        return stages, fit

    def _promising(self, target: CountTarget, stages: Stages, fit: Fit) -> list[tuple[Stages, np.ndarray]]:
        # at what the chain does on the samples judged on: the goal itself is about others
        now = score(self.coarse.chain(stages), fit.thresholds)
        there = CountTarget(correct=now.correct) if target.correct is not None else CountTarget(cost=now.cost)
        tried = []
        for others, start in self._neighbours(stages, fit.thresholds):
            chain = self.coarse.chain(others)
            found = relax(chain, there, score(chain, start)) if others else score(chain, start)
            tried.append((there.key(found.correct, found.cost), others, found.thresholds))
        tried.sort(key=lambda item: item[:2])
        return [(others, thresholds) for _, others, thresholds in tried[:_FITTED] if others]

    def _neighbours(self, stages: Stages, thresholds: np.ndarray) -> Iterator[tuple[Stages, np.ndarray]]:
        records = self.outcomes.records
        known = dict(zip(stages, thresholds, strict=True))
        for chain in extensions(records, stages, self.max_savers):
            # nobody leaves at the new stage, until moves find who should
            yield chain, self._thresholds(chain, known, 0.0)
        for stage in stages:
            rest = tuple(s for s in stages if s != stage)
            if not is_valid_chain(records, rest):
                continue
            yield rest, self._thresholds(rest, known, 0.0)
            leaving = float((self.coarse.records.topk_probabilities[stage, :, 0] > known[stage]).mean())
            for chain in extensions(records, rest, self.max_savers):
                if stage not in chain:
                    yield chain, self._thresholds(chain, known, leaving)

    def _thresholds(self, stages: Stages, known: dict[int, np.float32], leaving: float) -> np.ndarray:
        # a new stage lets as large a share leave as the one that it takes the place of
        probabilities = self.coarse.records.topk_probabilities
        new = [known[s] if s in known else np.quantile(probabilities[s, :, 0], 1 - leaving) for s in stages]
        return np.array(new, dtype=np.float32)
