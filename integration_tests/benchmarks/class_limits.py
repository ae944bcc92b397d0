"""What a limit on classes keeps and costs, where a saver is sure and wrong on a rare class.

    python integration_tests/benchmarks/class_limits.py [--draws 500] [--samples 8000] [--records FILE]

Two classes, 97 : 3. The saver takes half of the rare class for the common one, and is as sure of that as of two fifths
of the others: accuracy hardly notices. Half a point of it is allowed, and two points for each class, with a guarantee
of 90 %; SAMPLES are for the search, as many for the guarantee. Prints in how many draws no class loses more than two
points and two standard errors on 20,000 fresh samples, how many points have a guarantee, and the mean cost. With the
records of a file each draw parts them at random: a third is searched, a third tests the guarantee, a third is fresh.
"""

import argparse
from pathlib import Path

import numpy as np

from dynamic_exit.guarantee.drop_checks import check_drops
from dynamic_exit.points.goal_limits import goals_from_drops
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.optimizer import tune

RARE, LIMIT, DROP, PROBABILITY = 0.03, 0.02, 0.005, 0.9


def drawn(random: np.random.Generator, samples: int) -> Records:
    """Records of one saver at a tenth of the backbone's cost."""
    labels = (random.random(samples) < RARE).astype(np.int64)
    missed = (labels == 1) & (random.random(samples) < 0.5)
    doubtful = missed | (random.random(samples) < 0.4)
    sure = np.where(doubtful, random.uniform(0.5, 0.97, samples), random.uniform(0.97, 1, samples))
    saver = np.where(np.where(missed, 0, labels)[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    answers = np.where(random.random(samples) < 0.02, 1 - labels, labels)
    final = np.where(answers[:, None] == [0, 1], 0.95, 0.05)
    table = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0], [0, 1])
    return Records.from_probabilities(labels, table, [saver, final])


def main() -> None:
    """Print the figures of all draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--samples", type=int, default=8_000)
    parser.add_argument("--records", type=Path, help="records.npz to draw from, in place of those that are made")
    given = parser.parse_args()
    fresh = drawn(np.random.default_rng(10**6), 20_000)
    recorded = Records.read(given.records) if given.records else None
    for limit in (LIMIT, None):
        rows = []
        for seed in range(given.draws):
            random = np.random.default_rng([2, seed])
            if recorded:
                order = np.array_split(random.permutation(len(recorded)), 3)
                search, calibration, fresh = (recorded.take(np.sort(part)) for part in order)
            else:
                search, calibration = drawn(random, given.samples), drawn(random, given.samples)
            goals = goals_from_drops([DROP], max_class_drop=limit)
            options = SearchOptions("none", seed=seed, posterior=False)
            points = tune(search, fresh, goals, options, guarantee_records=calibration, guarantee=PROBABILITY)
            judged = points.points[0].model_copy(update={"goal": goals_from_drops([DROP], max_class_drop=LIMIT)[0]})
            limited = points.model_copy(update={"points": (judged,)})
            groups = check_drops(limited, fresh)[0].groups
            assert groups is not None, "the goal has a limit"
            rows.append((groups.exceeds, points.points[0].guarantee is not None, points.points[0].cost_ratio))
        exceeds, promised, cost = np.mean(rows, axis=0)
        what = "no limit" if limit is None else f"limit of {100 * limit:g} points"
        print(
            f"{what}: {100 * (1 - exceeds):.1f} % of {given.draws} draws keep it within two standard errors, "
            f"{100 * promised:.1f} % have a guarantee, cost {cost:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
