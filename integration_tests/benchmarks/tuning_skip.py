"""Does it pay to skip a stage? `python tuning_skip.py [--records FILE] [--savers N] [--draws N] [--seed S]`.

With a second threshold for each stage, a sample whose confidence is at or below it goes past the next stage to the one
behind, and that stage gives no evidence for it. On one random half of the records, good chains get both thresholds for
0 / 0.5 / 1 points allowed, by moves of pairs from the best thresholds without skipping; the same moves without second
thresholds are what they are held against. The table shows backbone cost over mean cost, and on the other half the
change of accuracy in points. Records are those of the ImageNet benchmark (resnet152), or of a file; no row corrects for
optimism. Nothing is skipped in the package: a sample of which a saver is unsure is still answered by the next one in
most cases, and what else there is to gain is under 3 % but for single halves with four savers.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tuning_data import imagenet

from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.records.stage_table import Stages
from dynamic_exit.search.beam import Beam
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.outcomes import ChainOutcomes, OutcomeCache
from dynamic_exit.search.targets import CountTarget, count_target
from dynamic_exit.search.thresholds import polish, rough_fits
from dynamic_exit.tuning.optimizer import optimize

DROPS = (0.0, 0.005, 0.01)
GOALS = [Goal(max_accuracy_drop=drop) for drop in DROPS]
# chains per goal beside those that the search chooses, and thresholds that are tried around one
CHAINS, NEAR, ROUNDS = 3, 15, 3
NO_SKIP = np.float32(-1)


class Skipping:
    """A chain whose stages may be skipped on some records.

    Args:
        outcomes: Of the records.
        stages: The chain, without the final.
    """

    def __init__(self, outcomes: OutcomeCache, stages: Stages) -> None:
        self.outcomes, self.stages = outcomes, stages
        self._made: dict[Stages, ChainOutcomes] = {}

    def _chain(self, seen: Stages) -> ChainOutcomes:
        if seen not in self._made:
            self._made[seen] = self.outcomes.chain(seen)
        return self._made[seen]

    def confidence(self, place: int) -> np.ndarray:
        """Return the confidence at a stage where none was skipped, float32 (N,)."""
        return self._chain(self.stages[: place + 1]).confidence[place]

    def score(self, leave: np.ndarray, skip: np.ndarray) -> tuple[float, float]:
        """Return the correct answers and the cost, summed over samples, of thresholds to leave and to skip."""
        samples = len(self.outcomes.records)
        correct, cost = 0.0, 0.0
        # the samples that come to each place, by what they have seen
        coming: list[dict[Stages, np.ndarray]] = [{} for _ in range(len(self.stages) + 1)]
        coming[0][()] = np.arange(samples)
        for place, stage in enumerate(self.stages):
            for before, rows in coming[place].items():
                seen = (*before, stage)
                chain = self._chain(seen)
                sure = chain.confidence[-1][rows]
                gone, past = rows[sure > leave[place]], (sure <= skip[place]) & (sure <= leave[place])
                correct += np.count_nonzero(chain.correct[-2][gone])
                cost += len(gone) * chain.cost[-2]
                stay = rows[(sure <= leave[place]) & ~past]
                for target, some in ((place + 1, stay), (min(place + 2, len(self.stages)), rows[past])):
                    known = coming[target].get(seen)
                    coming[target][seen] = some if known is None else np.concatenate([known, some])
        for before, rows in coming[-1].items():
            chain = self._chain(before)
            correct += np.count_nonzero(chain.correct[-1][rows])
            cost += len(rows) * chain.cost[-1]
        return correct, cost

    def fit(self, target: CountTarget, leave: np.ndarray, *, skipping: bool) -> tuple[float, np.ndarray, np.ndarray]:
        """Move pairs of thresholds until none helps; return the cost and both kinds of thresholds."""
        best = self._tried(target, leave, np.full(len(leave), NO_SKIP))
        for _ in range(ROUNDS):
            before = best[0]
            for moved in self._moves(skipping):
                grids = [self._near(best[1 + kind][place], place, kind) for kind, place in moved]
                for pair in np.stack(np.meshgrid(*grids), -1).reshape(-1, 2):
                    thresholds = best[1].copy(), best[2].copy()
                    for (kind, place), value in zip(moved, pair, strict=True):
                        thresholds[kind][place] = value
                    best = min(best, self._tried(target, *thresholds), key=lambda each: each[0])
            if best[0] > before * (1 - 1e-4):
                break
        return best

    def _tried(self, target: CountTarget, leave: np.ndarray, skip: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        correct, cost = self.score(leave, skip)
        return (cost if target.correct is not None and correct >= target.correct else np.inf), leave, skip

    def _moves(self, skipping: bool) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        # pairs of (0 to leave or 1 to skip, place); what the last stage could skip is nothing
        places = range(len(self.stages))
        yield from (((0, a), (0, b)) for a in places for b in places if a < b)
        if skipping:
            yield from (((1, a), (0, b)) for a in places[:-1] for b in places)

    def _near(self, current: np.float32, place: int, kind: int) -> np.ndarray:
        ordered = np.sort(self.confidence(place))
        at = np.searchsorted(ordered, current, side="right")
        # far steps for skipping, which starts from nowhere; steps that grow for leaving
        steps = np.unique(np.round(len(ordered) / 2 * 1.9 ** -np.arange(NEAR))).astype(int)
        if kind == 1:
            return np.append(ordered[np.round(np.linspace(0, 0.6 * len(ordered), NEAR)).astype(int)], current)
        near = np.clip(at + np.concatenate([-steps, steps]), 0, len(ordered) - 1)
        return np.append(ordered[near], current)


def compare(records: Records, rest: Records, savers: int, seed: int) -> np.ndarray:
    """Return (goals, 2, 3): without and with skipping, cost ratio searched, reported, and change of accuracy."""
    options = SearchOptions(Evidence("product", "margin"), max_savers=savers, seed=seed).learned_on(records)
    inner, outer = OutcomeCache(records, options.fuse), OutcomeCache(rest, options.fuse)
    chosen = optimize(records, GOALS, options, crossfit=False)
    ranked = Beam(records, options).best(GOALS, CHAINS)
    table = []
    for goal, found, others in zip(GOALS, chosen, ranked, strict=True):
        target = count_target(inner, goal)
        own = tuple(records.stages.index(name) for name, _ in found.stages)
        fits: list[list] = [[], []]
        for stages in {own, *others}:
            chain = inner.chain(stages)
            start = polish(chain, target, rough_fits(chain, [target])[0][0]).thresholds
            if stages == own:
                start = np.array([threshold for _, threshold in found.stages], dtype=np.float32)
            model = Skipping(inner, stages)
            for kind in (0, 1):
                fits[kind].append((*model.fit(target, start, skipping=bool(kind)), stages))
        table.append([_figures(inner, outer, min(each, key=lambda fit: fit[0])) for each in fits])
    return np.array(table)


def _figures(inner: OutcomeCache, outer: OutcomeCache, fit: tuple) -> tuple[float, float, float]:
    cost, leave, skip, stages = fit
    correct, outside = Skipping(outer, stages).score(leave, skip)
    samples = len(outer.records)
    whole = inner.records.baseline_cost
    change = 100 * (correct - outer.baseline_correct) / samples
    return whole * len(inner.records) / cost, whole * samples / outside, change


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, help="records.npz; those of ImageNet if there is none")
    parser.add_argument("--savers", type=int, default=3)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    records = Records.read(arguments.records) if arguments.records else imagenet("resnet152")
    made = []
    for draw in range(arguments.draws):
        order = np.random.default_rng([arguments.seed, draw]).permutation(len(records))
        half, rest = (records.take(part) for part in np.array_split(order, 2))
        made.append(compare(half, rest, arguments.savers, draw))
    for drop, (without, skipped) in zip(DROPS, np.mean(made, axis=0), strict=True):
        print(
            f"{100 * drop:.1f} points: searched {without[0]:.3f}x without, {skipped[0]:.3f}x with skipping "
            f"({100 * (skipped[0] / without[0] - 1):+.1f} %); reported {without[1]:.3f}x {without[2]:+.3f}, "
            f"{skipped[1]:.3f}x {skipped[2]:+.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
