"""What else might a learned confidence look at? `python tuning_learned.py [--records FILE] [--savers N] [--fuse RULE]`.

On one random half of the records (`--draws N`, `--seed S`; both ways of each division), good chains get thresholds for
`learned` as it is, and with further inputs: the entropy of the evidence; whether the stage's own answer is that of the
evidence before it; the share of the stages before whose own answers are that of the evidence now. Every chain has
gates of its own here, learned from its own evidence, which is the most that an input can bring: in the package a gate
belongs to a stage. The table shows backbone cost over mean cost on the other half at 0 / 0.5 / 1 points lost there,
between the points of thirteen goals, and by how many percent an input makes it cheaper, mean and standard error over
draws. Records are those of the ImageNet benchmark (resnet152), or of a file; no row corrects for optimism.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tuning_data import imagenet

from dynamic_exit.chain.confidence import confidence_rule
from dynamic_exit.chain.confidence.learned import log_odds
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.evidence.base import RecordedEvidence
from dynamic_exit.learning.gates import _logistic
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.records.stage_table import Stages
from dynamic_exit.search.beam import Beam
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.outcomes import ChainOutcomes
from dynamic_exit.search.targets import CountTarget, Fit
from dynamic_exit.search.thresholds import polish, rough_fits, score

GOALS = np.arange(-0.0025, 0.0126, 0.00125)
LEVELS = (0.0, 0.005, 0.01)
# chains per goal that are tried, and that get exact thresholds
CHAINS, EXACT = 4, 2
INPUTS = {
    "as it is": (),
    "entropy": ("entropy",),
    "answer as before": ("same",),
    "share that agree": ("share",),
    "both of these": ("same", "share"),
}
# for comparison
RULES = ("top1", "margin")


class Entropy:
    """In place of a confidence: the entropy of the evidence, in nats."""

    by_class = False

    def judge(self, evidence: np.ndarray, predicted: np.ndarray, axis: int = 1) -> np.ndarray:
        """Return it, float32 (N,)."""
        return -(evidence * np.log(evidence + np.float32(1e-12))).sum(axis=axis)


class Chains:
    """What chains answer on all records, and gates that are learned on some of them.

    Args:
        recorded: How evidence is combined.
        known: integers; the samples to learn on.
    """

    def __init__(self, recorded: RecordedEvidence, known: np.ndarray) -> None:
        self.recorded, self.records, self.known = recorded, recorded.records, known
        self.final = len(self.records.stages) - 1
        self.own = self.records.topk_classes[:, :, 0]
        self._made: dict[tuple[object, Stages], tuple[np.ndarray, np.ndarray]] = {}

    def _by(self, rule: object, seen: Stages) -> tuple[np.ndarray, np.ndarray]:
        key = type(rule), seen
        if key not in self._made:
            self._made[key] = replace(self.recorded, confidences=(rule,) * (self.final + 1)).search(seen)
        return self._made[key]

    def answer(self, seen: Stages) -> np.ndarray:
        """Return what the stages seen answer together, int64 (N,)."""
        return self._by(confidence_rule("top1"), seen)[0]

    def outcomes(self, stages: Stages, name: str) -> ChainOutcomes:
        """Return the outcomes of a chain on all records, by a rule, or by gates with further inputs."""
        whole = (*stages, self.final)
        worth = np.stack([self.records.worth(self.answer(whole[: i + 1])) for i in range(len(whole))])
        if name in RULES:
            sure = [self._by(confidence_rule(name), stages[: i + 1])[1] for i in range(len(stages))]
        else:
            sure = [self._gate(stages[: i + 1], worth[i] >= worth[-1], INPUTS[name]) for i in range(len(stages))]
        return ChainOutcomes(stages, np.stack(sure), worth, self.records.stage_table.exit_cost(stages))

    def _gate(self, seen: Stages, harmless: np.ndarray, inputs: Sequence[str]) -> np.ndarray:
        answer, largest = self._by(confidence_rule("top1"), seen)
        margin = self._by(confidence_rule("margin"), seen)[1]
        columns = [
            log_odds(largest),
            log_odds(largest - margin),
            margin,
            *(self._input(n, seen, answer) for n in inputs),
        ]
        features = np.stack(columns, axis=1).astype(np.float64)
        constant, weights, offsets = _logistic(features[self.known], answer[self.known], harmless[self.known])
        odds = constant + features @ weights + np.append(offsets, 0.0)[np.minimum(answer, len(offsets))]
        return (0.5 + 0.5 * np.tanh(odds / 2)).astype(np.float32)

    def _input(self, name: str, seen: Stages, answer: np.ndarray) -> np.ndarray:
        if name == "entropy":
            return self._by(Entropy(), seen)[1]
        if len(seen) == 1:
            return np.zeros(len(answer))
        if name == "same":
            return (self.own[seen[-1]] == self.answer(seen[:-1])).astype(float)
        return (self.own[list(seen[:-1])] == answer).mean(axis=0)


def good_chains(records: Records, options: SearchOptions) -> list[Stages]:
    """Return the chains that the package's beam finds best for any of the goals."""
    ranked = Beam(records, options).best([Goal(max_accuracy_drop=float(goal)) for goal in GOALS], CHAINS)
    return sorted({stages for chains in ranked for stages in chains})


def curve(records: Records, known: np.ndarray, rest: np.ndarray, options: SearchOptions) -> dict[str, np.ndarray]:
    """Return, by inputs, the logarithm of the cost over the backbone's on the rest at each level of what is lost."""
    half = records.take(known)
    options = options.learned_on(half)
    chains, found = Chains(options.fuse.on(records), known), {}
    right = records.reference_worth[known].sum()
    targets = [CountTarget(correct=float(np.ceil(right - goal * len(known) - 1e-9))) for goal in GOALS]
    tried = good_chains(half, options)
    for name in (*INPUTS, *RULES):
        whole = {stages: chains.outcomes(stages, name) for stages in tried}
        on_half = {stages: chain.take(known) for stages, chain in whole.items()}
        rough = {stages: rough_fits(chain, targets)[0] for stages, chain in on_half.items()}
        points = []
        for place, target in enumerate(targets):
            first = sorted(tried, key=lambda stages: target.fit_key(rough[stages][place]))[:EXACT]
            fits = {stages: polish(on_half[stages], target, rough[stages][place]) for stages in first}
            best = min(first, key=lambda stages: target.fit_key(fits[stages]))
            points.append(_lost_and_cost(records, rest, score(whole[best].take(rest), fits[best].thresholds)))
        lost, cost = np.array(sorted(points)).T
        found[name] = np.interp(LEVELS, lost, np.log(cost))
    return found


def _lost_and_cost(records: Records, rest: np.ndarray, fit: Fit) -> tuple[float, float]:
    lost = (records.reference_worth[rest].sum() - fit.correct) / len(rest)
    return float(lost), fit.cost / len(rest) / records.baseline_cost


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, help="a file of records in place of ImageNet's")
    parser.add_argument("--savers", type=int, default=2)
    parser.add_argument("--fuse", default="product")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    records = imagenet("resnet152") if arguments.records is None else Records.read(arguments.records)
    curves = []
    for draw in range(arguments.draws):
        # both ways of each division
        order = np.random.default_rng([arguments.seed, draw // 2]).permutation(len(records))
        known, rest = (np.sort(part) for part in np.array_split(order, 2)[:: 1 if draw % 2 == 0 else -1])
        options = SearchOptions(Evidence(arguments.fuse, "learned"), max_savers=arguments.savers, seed=draw)
        curves.append(curve(records, known, rest, options))
        print(
            f"half {draw}: " + "; ".join(f"{name} {np.exp(-c).round(3)}" for name, c in curves[-1].items()), flush=True
        )
    print(f"{'inputs':20} speed-up, and cheaper than as it is in %, at 0 / 0.5 / 1 points lost")
    for name in (*INPUTS, *RULES):
        costs, plain = (np.array([each[key] for each in curves]) for key in (name, "as it is"))
        less = 100 * (1 - np.exp(costs - plain))
        error = less.std(axis=0, ddof=1) / np.sqrt(len(less)) if len(less) > 1 else np.zeros(len(LEVELS))
        cells = zip(np.exp(-costs.mean(axis=0)), less.mean(axis=0), error, strict=True)
        print(f"{name:20} " + "   ".join(f"{s:6.2f}x {m:+.2f} +- {e:.2f}" for s, m, e in cells))


if __name__ == "__main__":
    main()
