"""How far beyond the plain search on real records: `python tuning_beyond.py [--splits N] [--seed S] [--backbone NAME]`.

Search on one random half of the 50,000 ImageNet records, report on the other, mean over splits: backbone cost over mean
cost, and the change of accuracy in points, at 0 / 0.5 / 1 points allowed. Savers are all cheaper models; costs are
multiply-adds. First rows: the package's optimizer with the plain mean. Further rows: its chains, and chains that the
package's beam finds on part of the search half with the margin of a product of equal powers as confidence; then
evidence and gates (tuning_evidence.py) learned on the search half alone, and the package's thresholds for them. Offsets
and gates are cross-fitted inside that half; weights and powers, at most five numbers, are not. With a chain fixed,
evidence and confidence are fixed numbers, so any of them make records of exits, and the package's evaluator measures
them. No row corrects for optimism (`crossfit` is off), so the change of accuracy belongs to every ratio.

The floor, the penalties and the list of methods were settled on splits 0 to 2 of seed 0 and two more, reporting halves
included, and all splits share the same images: differences of a few hundredths between rows say nothing.
"""

import argparse
import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tuning_data import imagenet
from tuning_evidence import (
    Answers,
    MarginChains,
    Pool,
    Stages,
    folds,
    gate_confidence,
    learned_answers,
    plain_confidence,
)

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.search.beam import Beam
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.outcomes import ChainOutcomes
from dynamic_exit.search.targets import CountTarget, Fit
from dynamic_exit.search.thresholds import polish, rough_fits
from dynamic_exit.tuning.optimizer import optimize

BACKBONES = ("resnet152", "densenet161", "vgg19_bn")
DROPS = (0.0, 0.005, 0.01)
GOALS = [Goal(max_accuracy_drop=drop) for drop in DROPS]
SAVERS = (2, 3, 4)
# samples that chains are searched on, and how wide
_CHAIN_ROWS, _CHAIN_BEAM = 6_000, 2
# per goal and length
_CHAINS_KEPT = 3
GATES = ("class", "agreement", "gate")


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        evidence: As in tuning_evidence.
        confidence: ``top-1``, ``margin``, ``entropy``, or what a gate looks at.
        savers: At most so many.
        chains: The method whose chosen chains are the only ones tried; all found chains if None.
    """

    evidence: str
    confidence: str
    savers: int
    chains: "Method | None" = None

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.evidence}, {self.confidence}"


def methods() -> list[Method]:
    """Return the rows after the optimizer's own; a method comes after the one whose chains it takes."""
    rows = [Method(kind, "margin", most) for kind in ("mean", "weighted mean", "product") for most in SAVERS]
    mean, product = rows[2], rows[-1]
    rows += [Method("product+offsets", "margin", most, Method("product", "margin", most)) for most in SAVERS]
    for confidence in ("top-1", "entropy", *GATES):
        rows += [Method(row.evidence, confidence, row.savers, row) for row in (mean, product)]
    return [*rows, Method("product+offsets", "gate", 4, product)]


class Case:
    """One split of one backbone's records.

    Args:
        pool: All samples.
        search: integers; the rows to search on.
        report: integers; the others.
        seed: Decides the folds and the samples that chains are searched on.
    """

    def __init__(self, pool: Pool, search: np.ndarray, report: np.ndarray, seed: int) -> None:
        self.pool, self.records, self.search, self.report, self.seed = pool, pool.records, search, report, seed
        self.final = len(self.records.stages) - 1
        self.costs = self.records.own_cost + self.records.prefix_cost
        self.alone = self.records.topk_classes[-1, :, 0] == self.records.truth
        self.fold = folds(len(search), seed)
        self.found: set[Stages] = set()
        self.chosen: dict[Method, list[Stages]] = {}
        self._answers: dict[tuple[str, Stages], Answers] = {}
        self._sure: dict[tuple[str, str, Stages], list[np.ndarray]] = {}

    def optimized(self, savers: int) -> list[tuple[float, float]]:
        """Search with the optimizer; per goal (backbone cost over mean cost, accuracy change in points)."""
        half, rest = self.records.take(self.search), self.records.take(self.report)
        figures = []
        for found in optimize(
            half, GOALS, SearchOptions(fuse="mean", max_savers=savers, seed=self.seed), crossfit=False
        ):
            self.found.add(tuple(self.records.index(name) for name, _ in found.stages))
            measured = evaluate(rest, found)
            figures.append((1 / measured.cost_ratio, -100 * measured.accuracy_drop))
        return figures

    def find_chains(self) -> None:
        """Search chains with the margin as confidence; the best of each length."""
        part = self.pool.take(np.sort(self.search[:_CHAIN_ROWS]))
        beam = Beam(
            part.records,
            SearchOptions(fuse="mean", max_savers=max(SAVERS), beam_width=_CHAIN_BEAM, seed=self.seed),
        )
        beam.levels = [MarginChains(part)]
        for ranked in beam.best(GOALS, len(self.records.stages) ** max(SAVERS)):
            for length in range(1, max(SAVERS) + 1):
                self.found.update([stages for stages in ranked if len(stages) == length][:_CHAINS_KEPT])
        self.found.discard(())

    def measure(self, method: Method) -> list[tuple[float, float]]:
        """Fit a method on the search half; per goal the figures on the reporting half."""
        targets = [
            CountTarget(correct=np.ceil(self.alone[self.search].sum() - drop * len(self.search) - 1e-9))
            for drop in DROPS
        ]
        tried = self.chosen[method.chains] if method.chains else sorted(self.found)
        tried = [stages for stages in tried if len(stages) <= method.savers]
        rough = {stages: rough_fits(self._chain(method, stages), targets)[0] for stages in tried}
        chosen, figures = set(), []
        for place, target in enumerate(targets):
            stages, fitted = self._best(method, target, {stages: fits[place] for stages, fits in rough.items()})
            chosen.add(stages)
            figures.append(self._figures(method, stages, fitted.thresholds))
        self.chosen[method] = sorted(chosen)
        return figures

    def _best(self, method: Method, target: CountTarget, rough: dict[Stages, Fit]) -> tuple[Stages, Fit]:
        # grids are coarser for longer chains, so the best of each length gets exact thresholds
        fits = []
        for length in sorted({len(stages) for stages in rough}):
            same = [stages for stages in rough if len(stages) == length]
            stages = min(same, key=lambda stages: target.key(rough[stages].correct, rough[stages].cost))
            fits.append((stages, polish(self._chain(method, stages), target, rough[stages])))
        return min(fits, key=lambda item: target.key(item[1].correct, item[1].cost))

    def _figures(self, method: Method, stages: Stages, thresholds: np.ndarray) -> tuple[float, float]:
        records = self._exits(method, stages)
        configuration = Configuration(tuple(zip(records.stages, thresholds.tolist(), strict=False)))
        measured = evaluate(records, configuration)
        alone = self.alone[self.report].mean()
        return self.costs[-1] / measured.cost, float(100 * (measured.accuracy - alone))

    def _exits(self, method: Method, stages: Stages) -> Records:
        # the reporting half, where each saver is an exit that costs all savers up to it
        whole = (*stages, self.final)
        given = [self.answers(method.evidence, whole[: place + 1]) for place in range(len(whole))]
        confidence = [*self._confidences(method, stages), plain_confidence("top-1", given[-1])]
        return Records(
            labels=self.records.truth[self.report],
            stages=tuple(self.records.stages[s] for s in whole),
            kinds=("exit",) * len(stages) + ("final",),
            positions=np.arange(len(whole), dtype=np.int64),
            topk_classes=np.stack([a.prediction[self.report] for a in given])[:, :, None].astype(np.int32),
            topk_probabilities=np.stack(confidence)[:, self.report, None].astype(np.float32),
            own_cost=np.zeros(len(whole)),
            prefix_cost=np.cumsum(self.costs[list(whole)]),
            cost_unit="macs",
        )

    def _chain(self, method: Method, stages: Stages) -> ChainOutcomes:
        whole = (*stages, self.final)
        correct = [self.answers(method.evidence, whole[: place + 1]).correct for place in range(len(whole))]
        confidence = np.stack(self._confidences(method, stages))
        costs = np.cumsum(self.costs[list(whole)])
        return ChainOutcomes(stages, confidence[:, self.search], np.stack(correct)[:, self.search], costs)

    def _confidences(self, method: Method, stages: Stages) -> list[np.ndarray]:
        key = (method.evidence, method.confidence, stages)
        if key not in self._sure:
            self._sure[key] = self._confident(method, stages)
        return self._sure[key]

    def _confident(self, method: Method, stages: Stages) -> list[np.ndarray]:
        given = [self.answers(method.evidence, stages[: place + 1]) for place in range(len(stages))]
        if method.confidence not in GATES:
            return [plain_confidence(method.confidence, a) for a in given]
        final = self.answers(method.evidence, (*stages, self.final))
        tops = self.records.topk_classes[list(stages), :, 0]
        return [
            gate_confidence(method.confidence, a, final, tops[: i + 1], self.search, self.report, self.fold)
            for i, a in enumerate(given)
        ]

    def answers(self, kind: str, seen: Stages) -> Answers:
        """Return what learned evidence of the stages seen answers on all samples."""
        if (kind, seen) not in self._answers:
            candidates = _candidates(self.pool, seen)
            self._answers[kind, seen] = learned_answers(kind, candidates, self.search, self.report, self.fold)
        return self._answers[kind, seen]


@functools.lru_cache(maxsize=24)
def _candidates(pool: Pool, seen: Stages):
    return pool.candidates(seen)


def table(backbone: str, splits: int, seed: int) -> None:
    """Print one backbone's rows."""
    pool = Pool(imagenet(backbone))
    figures: dict[tuple[str, int], list] = {}
    seconds = time.process_time()
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(len(pool.records))
        half = len(order) // 2
        case = Case(pool, order[:half], order[half:], split)
        for savers in SAVERS:
            figures.setdefault(("mean, top-1 (optimizer)", savers), []).append(case.optimized(savers))
        case.find_chains()
        for method in methods():
            figures.setdefault((method.name, method.savers), []).append(case.measure(method))
    seconds = time.process_time() - seconds
    print(f"{backbone}, {splits} splits, seed {seed}, {seconds / splits:.1f} s a split")
    print(f"{'evidence, confidence':34} savers   cost ratio and accuracy change at 0 / 0.5 / 1 points allowed")
    for (name, savers), rows in figures.items():
        print(f"{name:34} <={savers}     {_cells(rows)}", flush=True)


def _cells(rows: Iterable) -> str:
    mean = np.mean(list(rows), axis=0)
    return "   ".join(f"{ratio:6.2f}x {change:+.2f}" for ratio, change in mean)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", choices=BACKBONES, help="only this one")
    arguments = parser.parse_args()
    for backbone in BACKBONES if arguments.backbone is None else (arguments.backbone,):
        table(backbone, arguments.splits, arguments.seed)


if __name__ == "__main__":
    main()
