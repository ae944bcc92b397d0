"""What `upgrade` gains on ImageNet: the best chain before a larger backbone, for what a model costs alone.

`python upgrade.py [--today resnet50 ...] [--savers 2] [--seeds 0 ...]`

On records of 50,000 images (multiply-adds, see `tuning_data.py`). Every more expensive backbone of the records is
tried; candidates are today's model and all that cost less than the backbone. Half of the images are searched, by the
same functions as in a run (`keep_budget`), at a budget of what today's model costs; the backbone that is right most
often there is measured on the other half. Prints a line for each model and draw of the halves: accuracy of today's
model, of the chain, the paired gain with its standard error, and the mean cost over today's, all on the other half.
"""

import argparse
import time

import numpy as np
from tuning_data import IMAGENET_GMACS, imagenet

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.guarantee.drop_checks import paired_standard_error
from dynamic_exit.points.goal import Goal
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.kept_budget import keep_budget
from dynamic_exit.tuning.optimizer import optimize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--today", nargs="+", default=["resnet34", "resnet50"])
    parser.add_argument("--larger", nargs="+", default=["resnet101", "resnet152", "densenet161"])
    parser.add_argument("--savers", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    for today in arguments.today:
        larger = [name for name in arguments.larger if IMAGENET_GMACS[name] > IMAGENET_GMACS[today]]
        for seed in arguments.seeds:
            upgrade(today, larger, SearchOptions("mean", arguments.savers, seed))


def upgrade(today: str, larger: list[str], options: SearchOptions) -> None:
    """Print what comes of a draw of the halves."""
    began, tried = time.process_time(), []
    order = np.random.default_rng(options.seed).permutation(50_000)
    for backbone in larger:
        records = imagenet(backbone)
        share = IMAGENET_GMACS[today] / IMAGENET_GMACS[backbone]
        searched = records.take(np.sort(order[:25_000]))
        kept = keep_budget(searched, share, options)
        (configuration,) = optimize(searched, [Goal(budget=kept.budget)], options)
        tried.append((kept.accuracy, backbone, records.take(np.sort(order[25_000:])), configuration, share))
    _, backbone, others, configuration, share = max(tried, key=lambda each: each[0])
    found, before = evaluate(others, configuration), others.topk_classes[others.index(today), :, 0] == others.truth
    correct = found.prediction == others.truth
    gain, error = correct.mean() - before.mean(), paired_standard_error(before, correct)
    chain = ", ".join([*(stage for stage, _ in configuration.stages), backbone])
    print(
        f"{today}: {before.mean():.2%} -> {correct.mean():.2%} ({100 * gain:+.2f} ± {100 * error:.2f} points) at "
        f"{found.cost_ratio / share:.3f} ± {found.cost_ratio_error / share:.3f} of its cost, by {chain} "
        f"({time.process_time() - began:.0f} s)",
        flush=True,
    )


if __name__ == "__main__":
    main()
