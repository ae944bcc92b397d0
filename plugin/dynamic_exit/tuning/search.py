"""Which stages to use: a beam search over chains, each judged by its fitted thresholds at several goals."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .chain import Chains
from .evaluation import Configuration
from .fit import Fit, Need, Table, fit, grid_sizes, quantile_thresholds

# a longer chain must save this share more to be looked at
_WORTH = 1e-4
_EXHAUSTIVE_CHAINS = 64


@dataclass(frozen=True)
class Found:
    """A chain fitted to a goal.

    Attributes:
        stages: Places in the records' chain, without the final.
        fit: Its thresholds and their counts on the samples searched.
    """

    stages: tuple[int, ...]
    fit: Fit


class Search:
    """The search on one set of records.

    Args:
        chains: Makes the chains.
        max_savers: At most so many savers in use; any number if None.
        beam: How many chains of each length are kept per goal.
        max_stages: The longest chain looked at.
    """

    def __init__(self, chains: Chains, *, max_savers: int | None = None, beam: int = 4, max_stages: int = 6) -> None:
        self.chains = chains
        self.max_savers = max_savers
        self.beam = beam
        self.max_stages = max_stages

    def run(self, needs: list[Need]) -> list[Found | None]:
        """Search for every goal.

        Args:
            needs: The goals, in counts over the chains' samples.

        Returns:
            The best found per goal; None where nothing meets it.
        """
        pools = self._pools(needs)
        return [self._finish(need, pool) for need, pool in zip(needs, pools, strict=True)]

    def _finish(self, need: Need, pool: list[tuple[int, ...]]) -> Found | None:
        best: Found | None = None
        for stages in pool:
            chain = self.chains.chain(stages)
            fitted = fit(chain, need)
            if fitted is not None and (best is None or _key(need, fitted) < _key(need, best.fit)):
                best = Found(stages, fitted)
        return best

    def _pools(self, needs: list[Need]) -> list[list[tuple[int, ...]]]:
        # per goal, the chains worth a full fit, the backbone alone among them
        every = self._all_chains()
        if every is not None:
            return [every for _ in needs]
        scores: dict[tuple[int, ...], list[tuple[float, float]]] = {(): self._judge((), needs)}
        layer: list[tuple[int, ...]] = [()]
        for _ in range(self.max_stages):
            grown = {chain for stages in layer for chain in self._longer(stages)} - set(scores)
            for stages in sorted(grown):
                scores[stages] = self._judge(stages, needs)
            keep: set[tuple[int, ...]] = set()
            for goal in range(len(needs)):
                best = min(scores[stages][goal] for stages in scores if stages not in grown)
                ranked = sorted(grown, key=lambda stages, goal=goal: scores[stages][goal])[: self.beam]
                keep.update(s for s in ranked if scores[s][goal][0] < best[0] - _WORTH * abs(best[0]) or len(s) == 1)
            layer = sorted(keep)
            if not layer:
                break
        return [
            [(), *sorted(scores, key=lambda stages, goal=goal: scores[stages][goal])[: self.beam]]
            for goal in range(len(needs))
        ]

    def _judge(self, stages: tuple[int, ...], needs: list[Need]) -> list[tuple[float, float]]:
        chain = self.chains.chain(stages)
        count = grid_sizes(chain, cells=1 << 14)
        fits = Table(chain, [quantile_thresholds(row, count) for row in chain.confidence]).fits(needs)
        return [_key(need, f) if f is not None else (np.inf, np.inf) for need, f in zip(needs, fits, strict=True)]

    def _longer(self, stages: tuple[int, ...]) -> Iterable[tuple[int, ...]]:
        records = self.chains.records
        savers = sum(records.kinds[s] == "saver" for s in stages)
        taken = {int(records.positions[s]) for s in stages if records.kinds[s] == "exit"}
        for stage in range(self.chains.final):
            if stage in stages:
                continue
            if records.kinds[stage] == "saver":
                if self.max_savers is not None and savers >= self.max_savers:
                    continue
            elif int(records.positions[stage]) in taken:
                continue
            yield tuple(sorted((*stages, stage)))

    def _all_chains(self) -> list[tuple[int, ...]] | None:
        # every chain that the rules allow, if they are few
        found, layer = [()], [()]
        while layer:
            layer = sorted({longer for stages in layer for longer in self._longer(stages)})
            found += layer
            if len(found) > _EXHAUSTIVE_CHAINS:
                return None
        return found


def _key(need: Need, fitted: Fit) -> tuple[float, float]:
    return need.key(fitted.right, fitted.cost)


def configuration(chains: Chains, found: Found) -> Configuration:
    """Return what was found as a configuration.

    Args:
        chains: The chains that were searched.
        found: The chain and its thresholds.

    Returns:
        The configuration; a stage that no sample leaves at is dropped where its evidence is not used either.
    """
    chain = chains.chain(found.stages)
    stages = []
    for place, (stage, threshold) in enumerate(zip(found.stages, found.fit.thresholds, strict=True)):
        if chains.fuse == "mean" or (chain.confidence[place] > threshold).any():
            stages.append((chains.records.stages[stage], float(threshold)))
    return Configuration(tuple(stages), chains.fuse)
