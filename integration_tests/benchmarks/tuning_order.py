"""Are points in order: `python tuning_order.py [--draws N] [--seed S] [--records FILE ...]`.

Random records of savers and exits, 100 to 3,000 samples, and records files of finished runs; random goals in any order:
drops, gains and budgets. On the samples searched a looser drop must never be dearer than a stricter one, and a larger
budget never less accurate than a smaller one; points with a guarantee are compared with each other. Prints every
violation, their number and the seconds; ends with 1 where there is one.

Order must hold whatever the optimism of the search is: it is drawn at random, from none to far more than there is.
Every tenth random record, and each file, is tuned as a whole, with the optimism measured.
"""

import argparse
import itertools
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tuning_data import synthetic

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.errors import TuningError
from dynamic_exit.guarantee import certify_boldest
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import OperatingPoint
from dynamic_exit.records import Records
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.solver import Search
from dynamic_exit.tuning.choice import run_with_margin
from dynamic_exit.tuning.optimizer import tune

DROPS = (0.0, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)
GAINS = (-0.01, -0.002)
BUDGETS = (0.3, 0.5, 0.8)
PROMISED = 0.9


def random_records(random: np.random.Generator, samples: int) -> Records:
    """Up to two savers and two positions of one or two exits, at least one stage; costs of savers at random."""
    savers, positions, heads = int(random.integers(0, 3)), int(random.integers(0, 3)), int(random.integers(1, 3))
    positions = max(positions, 1 - savers)
    made = synthetic(samples, savers + positions, heads, seed=int(random.integers(1 << 30)), kept=3)
    first = [f"exit{place}.0" for place in range(savers)]
    keep = [name for name in made.stages[:-1] if name in first or int(name[4]) >= savers]
    made = made.select(keep)
    own, prefix = made.own_cost.copy(), made.prefix_cost.copy()
    own[:savers], prefix[:savers] = np.sort(random.uniform(0.02, 0.3, savers)) * 1e9, 0
    places = made.positions - savers
    places[:savers] = -1
    kinds = ("saver",) * savers + made.kinds[savers:]
    return replace(made, own_cost=own, prefix_cost=prefix, positions=places, kinds=kinds)


def random_goals(random: np.random.Generator) -> list[Goal]:
    """Three to five drops, up to two budgets, and perhaps a gain, in any order."""
    drops = [*random.choice(DROPS, random.integers(3, 6), replace=False)]
    drops += [random.choice(GAINS)] if random.random() < 0.5 else []
    goals = [Goal(max_accuracy_drop=float(drop)) for drop in drops]
    goals += [Goal(budget=float(b)) for b in random.choice(BUDGETS, random.integers(0, 3), replace=False)]
    return [goals[place] for place in random.permutation(len(goals))]


def violations(records: Records, points: list[OperatingPoint]) -> list[str]:
    """Compare all points of one kind on the samples searched."""
    found = []
    figures = {point.name: evaluate(records, point.configuration) for point in points}
    for a, b in itertools.permutations(points, 2):
        if (a.guarantee is None) != (b.guarantee is None):
            continue
        strict, loose = figures[a.name], figures[b.name]
        if a.goal.budget is not None and b.goal.budget is not None:
            wrong = a.goal.budget < b.goal.budget and loose.accuracy < strict.accuracy
        elif a.goal.budget is None and b.goal.budget is None:
            wrong = a.goal.max_accuracy_drop < b.goal.max_accuracy_drop and loose.cost > strict.cost
        else:
            wrong = False
        if wrong:
            found.append(
                f"{a.name} costs {strict.cost_ratio:.4f} at {strict.accuracy:.4f}, "
                f"{b.name} {loose.cost_ratio:.4f} at {loose.accuracy:.4f}"
            )
    return found


def tuned(records: Records, random: np.random.Generator, fuse: str, seed: int) -> list[OperatingPoint]:
    """Tune as a whole, half of the times with a guarantee; goals that cannot be reached are left out."""
    promise = {"guarantee": PROMISED, "guarantee_records": records} if random.random() < 0.5 else {}
    goals = random_goals(random)
    try:
        return list(tune(records, records, goals, SearchOptions(fuse=fuse, seed=seed), **promise).points)
    except TuningError:
        goals = [goal for goal in goals if goal.budget is None and goal.max_accuracy_drop >= 0]
        return list(tune(records, records, goals, SearchOptions(fuse=fuse, seed=seed), **promise).points)


def chosen(records: Records, random: np.random.Generator, fuse: str, seed: int) -> list[OperatingPoint]:
    """Choose at a random optimism per goal, and every third time test guarantees on the samples searched."""
    search, goals = Search(records, SearchOptions(fuse=fuse, seed=seed)), random_goals(random)
    optimism = [float(each) for each in random.choice([0, 0.01, 0.05]) * random.random(len(goals))]
    kept = [
        each
        for each in zip(goals, run_with_margin(search, goals, optimism), optimism, strict=True)
        if each[1] is not None
    ]
    measured = [
        OperatingPoint.measure(records, choice.configuration, name=goal.name, goal=goal) for goal, choice, _ in kept
    ]
    allowing = [each for each in kept if each[0].max_accuracy_drop is not None]
    if not allowing or random.random() > 1 / 3:
        return measured
    allowed = [goal for goal, _, _ in allowing]
    plain = [choice.configuration for _, choice, _ in allowing]
    for (goal, _, _), (configuration, promise, _) in zip(
        allowing,
        certify_boldest(search, plain, records, allowed, PROMISED, [more for _, _, more in allowing]),
        strict=True,
    ):
        if promise is not None:
            name = f"{goal.name}, guaranteed"
            measured.append(OperatingPoint.measure(records, configuration, name=name, goal=goal, guarantee=promise))
    return measured


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path, nargs="*", default=[], help="records.npz of finished runs")
    arguments = parser.parse_args()
    start, wrong, compared, promises = time.process_time(), 0, 0, 0
    for turn in range(arguments.draws + len(arguments.records)):
        random = np.random.default_rng([arguments.seed, turn])
        if turn < arguments.draws:
            name, records = f"draw {turn}", random_records(random, round(10 ** random.uniform(2, np.log10(3000))))
        else:
            path = arguments.records[turn - arguments.draws]
            name, records = str(path), Records.read(path)
        fuse = str(random.choice(["mean", "none"]))
        whole = turn >= arguments.draws or turn % 10 == 9
        points = (tuned if whole else chosen)(records, random, fuse, turn)
        compared += len(points)
        promises += sum(point.guarantee is not None for point in points)
        for each in violations(records, points):
            wrong += 1
            print(f"{name}, {len(records)} samples, {len(records.stages)} stages, fuse {fuse}: {each}", flush=True)
        if turn % 20 == 19:
            print(f"{turn + 1} records, {wrong} violations, {time.process_time() - start:.0f} s", flush=True)
    print(
        f"{wrong} violations on {turn + 1} records, {compared} points of which {promises} have a guarantee, "
        f"{time.process_time() - start:.0f} s"
    )
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
