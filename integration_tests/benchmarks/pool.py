"""Savers out of a pool: `python pool.py WHAT [--draws N] [--seed S]`; times are processor time of one core.

pairs: the chain of up to two against all of them, small real pools and a synthetic one. large: 200 candidates, 50,000
samples: the table of all of them; up to two savers against all pairs, up to four against a search about ten times as
long. honest: 2,500 search samples out of a large pool; the drop on all others.
"""

import argparse
import itertools
import time
from collections.abc import Callable

import numpy as np
from tuning_data import imagenet

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.passes.tiny_saver.select import select_savers
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.records.stage_table import Stages
from dynamic_exit.search.beam import Beam
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.outcomes import OutcomeCache
from dynamic_exit.search.targets import count_target
from dynamic_exit.search.thresholds import polish, rough_fits
from dynamic_exit.tuning.optimizer import optimize

# of this process, so that other work on the machine does not count
clock = time.process_time
GOAL = Goal(max_accuracy_drop=0.005)
_FAMILIES = 14
_CONFUSED = 10


def pool(candidates: int, samples: int, seed: int = 0, kept: int = 5) -> Records:
    """Records of independent savers of a thousand classes, and a final.

    Label uniform; difficulty d ~ N(0, 1) per sample; own costs even in their logarithm between 0.003 and 0.7 of the
    final's; competence a rising with it from -0.3 to 0.9, plus 0.2 N(0, 1) and at most 0.9, so that many are dominated.
    A sample has ten classes that models confuse it with, each with a pull of its own. A class has logit 2.2 (a - d) if
    it is the true one, else that pull, plus noise that is half of the model's family. Models are over- or
    under-confident.
    """
    random, classes = np.random.default_rng(seed), 1000
    labels = random.integers(classes, size=samples)
    difficulty = random.standard_normal(samples).astype(np.float32)
    # distinct classes: steps around the circle that do not come back
    steps = np.cumsum(random.integers(1, classes // _CONFUSED, size=(samples, _CONFUSED)), axis=1)
    names = np.concatenate([labels[:, None], (labels[:, None] + steps) % classes], axis=1).astype(np.int32)
    pull = random.standard_normal((samples, _CONFUSED)).astype(np.float32) * 1.2 - 3.0
    families = random.standard_normal((_FAMILIES, samples, 1 + _CONFUSED), dtype=np.float32)
    cost = np.append(np.sort(np.exp(random.uniform(np.log(0.003), np.log(0.7), candidates))), 1.0)
    level = np.log(cost / 0.003) / np.log(1 / 0.003)
    competence = -0.3 + 1.2 * level + 0.2 * random.standard_normal(candidates + 1)
    competence = np.minimum(competence, 0.9)
    competence[-1] = 1.2
    top = np.empty((candidates + 1, samples, kept), dtype=np.int32)
    probabilities = np.empty((candidates + 1, samples, kept), dtype=np.float32)
    for model in range(candidates + 1):
        noise = random.standard_normal((samples, 1 + _CONFUSED), dtype=np.float32)
        logits = 0.8 * (families[random.integers(_FAMILIES)] + noise)
        logits[:, 0] += 2.2 * (competence[model] - difficulty)
        logits[:, 1:] += pull
        logits *= np.exp(0.15 * random.standard_normal())
        order = np.argsort(-logits, axis=1)[:, :kept]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        top[model] = np.take_along_axis(names, order, axis=1)
        probabilities[model] = np.take_along_axis(shares, order, axis=1)
    own, prefix = cost * 1e9, np.zeros(candidates + 1)
    own[-1], prefix[-1] = 0.0, 1e9
    return Records(
        labels=labels.astype(np.int64),
        stages=(*(f"saver{place}" for place in range(candidates)), "final"),
        kinds=("saver",) * candidates + ("final",),
        positions=np.array([-1] * candidates + [0], dtype=np.int64),
        topk_classes=top,
        topk_probabilities=np.minimum(probabilities, np.float32(1)),
        own_cost=own,
        prefix_cost=prefix,
        cost_unit="macs",
    )


def best_of(records: Records, goal: Goal, chains: list[Stages], polished: int) -> tuple[float, Stages]:
    """The cheapest of some chains at a goal, over the backbone's cost; the best on a grid get exact thresholds."""
    made, rough = OutcomeCache(records, "mean"), []
    wanted = count_target(made, goal)
    for stages in chains:
        fits, _ = rough_fits(made.chain(stages), [wanted])
        rough.append((wanted.key(fits[0].correct, fits[0].cost), stages, fits[0]))
    rough.sort(key=lambda item: item[:2])
    found = []
    for _, stages, fit in rough[:polished]:
        fit = polish(made.chain(stages), wanted, fit) if stages else fit
        found.append((wanted.key(fit.correct, fit.cost)[0] / len(records) / records.baseline_cost, stages))
    return min(found)


def all_pairs(records: Records, goal: Goal) -> tuple[float, Stages]:
    """The best chain of up to two savers, by trying them all on all samples."""
    savers = range(len(records.stages) - 1)
    chains = [stages for size in (0, 1, 2) for stages in itertools.combinations(savers, size)]
    return best_of(records, goal, chains, 60)


def longer_search(records: Records, goal: Goal) -> tuple[float, Stages]:
    """The best chain of up to four savers by a wider beam on more samples, without a shortlist."""
    beam = Beam(records, SearchOptions(fuse="mean", max_savers=4, beam_width=400), rows=40_000, screened=6_000)
    return best_of(records, goal, beam.best([goal], 600)[0], 150)


def chosen(records: Records, savers: int, crossfit: bool) -> tuple[Configuration, float]:
    """What the optimizer chooses, and the seconds that it takes."""
    start = clock()
    (found,) = optimize(records, [GOAL], SearchOptions(fuse="mean", max_savers=savers), crossfit=crossfit)
    return found, clock() - start


def compare(
    name: str, records: Records, savers: int, search: Callable[[Records, Goal], tuple[float, Stages]], crossfit: bool
) -> float:
    """Print how much dearer the chosen chain is than the best, both with thresholds for the same goal.

    Cross-fitted, that goal is the stricter one that the optimizer asked for on these samples.
    """
    found, seconds = chosen(records, savers, crossfit)
    goal = Goal(max_accuracy_drop=evaluate(records, found).accuracy_drop) if crossfit else GOAL
    stages = tuple(records.index(stage) for stage, _ in found.stages)
    print(f"{name}, up to {savers}{', cross-fitted' if crossfit else ''}: {seconds:.1f} s, chosen {stages}", flush=True)
    start = clock()
    cost, best = best_of(records, goal, [stages], 1)[0], search(records, goal)
    print(
        f"    at {cost:.4f}, best {best[1]} at {best[0]:.4f} ({clock() - start:.0f} s): "
        f"{100 * (cost / best[0] - 1):+.2f} %",
        flush=True,
    )
    return cost / best[0] - 1


def pairs(draws: int, seed: int) -> None:
    """The chosen chain of up to two savers against all of them."""
    real, dearer = imagenet("resnet152"), []
    for draw in range(draws):
        random = np.random.default_rng([seed, draw])
        names = random.choice(real.stages[:-1], size=int(random.integers(5, 9)), replace=False)
        records = real.select(list(names)).take(np.sort(random.choice(len(real), 25_000, replace=False)))
        for crossfit in (False, True):
            dearer.append(compare(f"imagenet, {len(names)} candidates", records, 2, all_pairs, crossfit))
    records = pool(30, 50_000, seed=seed + 1)
    dearer += [compare("synthetic, 30 candidates", records, 2, all_pairs, crossfit) for crossfit in (False, True)]
    print(f"dearer than the best by at most {100 * max(dearer):.2f} %")


def large(draws: int, seed: int) -> None:
    """200 candidates: seconds, and how near to the best."""
    records = pool(200, 50_000, seed=seed)
    for savers, search in ((2, all_pairs), (4, longer_search)):
        start = clock()
        table = select_savers(records, SearchOptions("mean", savers), GOAL)
        names = [row.stage for row in table if row.chosen]
        print(f"the table of all candidates, up to {savers} chosen: {clock() - start:.1f} s, {names}", flush=True)
        compare("synthetic, 200 candidates", records, savers, search, False)


def honest(draws: int, seed: int) -> None:
    """The drop on samples that the search has not seen, 0.5 points allowed."""
    for name, records in (("imagenet", imagenet("resnet152")), ("synthetic, 200", pool(200, 50_000, seed=seed))):
        for savers in (2, 4):
            drops, speed = [], []
            for draw in range(draws):
                order = np.random.default_rng([seed, draw]).permutation(len(records))
                search, rest = records.take(order[:2500]), records.take(order[2500:])
                figures = evaluate(rest, chosen(search, savers, True)[0])
                drops.append(100 * figures.accuracy_drop)
                speed.append(1 / figures.cost_ratio)
            print(
                f"{name:16} up to {savers}: mean drop {np.mean(drops):.3f} +- {np.std(drops) / np.sqrt(draws):.3f} "
                f"points, backbone cost over mean cost {np.mean(speed):.2f}",
                flush=True,
            )


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = {"pairs": (pairs, 8), "large": (large, 1), "honest": (honest, 50)}
    parser.add_argument("what", choices=what)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run, draws = what[arguments.what]
    run(arguments.draws or draws, arguments.seed)


if __name__ == "__main__":
    main()
