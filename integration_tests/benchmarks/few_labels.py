"""What few labels cost: searches on 2,500 samples by labels, by a posterior of all stages, and with unlabelled samples.

    python integration_tests/benchmarks/few_labels.py [--draws 100] [--samples 2500] [--further 10000]

prints, for each way, speed-up, mean and standard deviation of the true drop, and its 90 % quantile over draws; then
what each way costs over labels at an equal quantile. Records of ImageNet models (see `tuning_data.py`), resnet152
behind up to two of five savers; the true drop is that of all samples that were not searched.
"""

import argparse

import numpy as np
from tuning_data import imagenet

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.optimizer import optimize

SAVERS = ["mobilenetV2_keras", "resnet18", "resnet34", "densenet169", "densenet201"]
DROPS = (0.0, 0.005, 0.01)
WAYS = {"labels": False, "posterior": True, "posterior, unlabelled too": True}


def draw(records: Records, samples: int, further: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Cost over the backbone's and true drop, for each way and goal."""
    order = np.random.default_rng([1, seed]).permutation(len(records))
    ends = np.cumsum([0, samples, further, len(records)])
    search, unlabelled, rest = (records.take(np.sort(order[a:b])) for a, b in zip(ends[:-1], ends[1:], strict=True))
    goals, found = [Goal(max_accuracy_drop=drop) for drop in DROPS], {}
    for way, posterior in WAYS.items():
        more = unlabelled if "unlabelled" in way else None
        options = SearchOptions("mean", 2, posterior=posterior, unlabelled=more)
        figures = [evaluate(rest, each) for each in optimize(search, goals, options)]
        found[way] = [(each.cost_ratio, each.accuracy_drop) for each in figures]
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("--draws", 100), ("--samples", 2_500), ("--further", 10_000)):
        parser.add_argument(name, type=int, default=value)
    given = parser.parse_args()
    records = imagenet("resnet152").select(SAVERS)
    draws = [draw(records, given.samples, given.further, seed) for seed in range(given.draws)]
    curves = {}
    print(f"{'way':28s} {'allowed':>8s} {'speed-up':>9s} {'drop':>6s} {'sd':>6s} {'q90':>6s}")
    for way in WAYS:
        cost, drop = np.moveaxis(np.array([each[way] for each in draws]), 2, 0)
        curves[way] = np.quantile(drop, 0.9, axis=0), cost.mean(axis=0)
        for place, allowed in enumerate(DROPS):
            print(
                f"{way:28s} {100 * allowed:7.1f}p {1 / cost[:, place].mean():8.2f}x {100 * drop[:, place].mean():6.2f} "
                f"{100 * drop[:, place].std():6.2f} {100 * curves[way][0][place]:6.2f}"
            )
    low = max(quantiles[0] for quantiles, _ in curves.values())
    high = min(quantiles[-1] for quantiles, _ in curves.values())
    if low > high:
        print("quantiles of the ways do not overlap: nothing is compared at an equal one")
        return
    for level in np.linspace(low, high, 3):
        costs = {way: np.interp(level, *curve) for way, curve in curves.items()}
        shown = ", ".join(f"{way} {100 * (1 - cost / costs['labels']):.1f} % cheaper" for way, cost in costs.items())
        print(f"at a 90 % quantile of {100 * level:.2f} points: {shown}")


if __name__ == "__main__":
    main()
