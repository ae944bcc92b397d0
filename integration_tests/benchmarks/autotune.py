"""The configuration optimizer under Neural Compressor's `autotune` beside a whole grid, on CIFAR-10 resnet56.

    DYNAMIC_EXIT_DATA=... python integration_tests/benchmarks/autotune.py [--loss 0.01] [--samples 600] [--steps 16]
        [--skip 0]

Static choices: none, and channels pruned without training. Dynamic ones: resnet8 and resnet20 as savers, their evidence
added up or not. The grid is every static choice and way of adding up with every pair of thresholds, or none, and its
best is what costs least at a tolerable loss of accuracy. Costs are multiply-adds on some images of `dev`, accuracy is
that on others, the same for both.
Bars: at most 10 % of the grid's evaluations, and a cost within 2 % of its best.
"""

import argparse
import copy
import itertools
import logging
import sys
import time
from pathlib import Path

import numpy as np
import torch
from neural_compressor.torch.quantization import TuningConfig, autotune, quantize

from dynamic_exit import ConfigurationOptimizer, DynamicExitConfig
from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.core.batching import batches
from dynamic_exit.cost import ChainCost, count_macs
from dynamic_exit.errors import PassError
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.points.goal_limits import LARGEST_DROP
from dynamic_exit.recipe import read_recipe
from dynamic_exit.runtime.recorder import make_records

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "cifar10_resnet56.yaml"
SAVERS = ("resnet8", "resnet20")
STATIC = ({}, {"pruning": {"ratio": 0.05, "fine_tune": {"epochs": 0}}})


def main() -> None:
    """Print both counts and both costs; exit code 1 where a bar is missed."""
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loss", type=float, default=0.01, help="tolerable relative loss of accuracy")
    parser.add_argument("--samples", type=int, default=600, help="images to calibrate on, and as many to score on")
    parser.add_argument("--steps", type=int, default=16, help="thresholds of each saver in the grid, off included")
    parser.add_argument("--skip", type=int, default=0, help="images of each half that are left out before the first")
    arguments = parser.parse_args()
    run_inputs = load_run_inputs(read_recipe(RECIPE))
    model = run_inputs.backbone.eval()
    images, fresh = (run_inputs.splits[key] for key in ("calibration", "test"))
    taken = slice(arguments.skip, arguments.skip + arguments.samples)
    inputs = torch.from_numpy(next(iter(images.inputs.values()))[taken])
    scored, labels = next(iter(fresh.inputs.values()))[taken], fresh.labels[taken]
    candidates = [each.model_dump() for name, each in run_inputs.candidates.items() if name in SAVERS]

    def configs() -> list[DynamicExitConfig]:
        savers = {"candidates": candidates, "max_savers": len(SAVERS)}
        # disagreement, as the optimizer allows for this loss
        tuning = {"max_accuracy_drop": min(LARGEST_DROP, 5 * arguments.loss)}
        return [
            DynamicExitConfig(**static, tiny_saver={**savers, "fuse": fuse}, tuning=tuning)
            for static in STATIC
            for fuse in ("mean", "none")
        ]

    def calibrate(given) -> None:
        for rows in inputs.split(64):
            given(rows)

    def accuracy(given) -> float:
        right = 0
        with torch.no_grad():
            for rows, truth in batches([scored, labels], 64):
                right += int((given(torch.from_numpy(rows)).argmax(1).numpy() == truth).sum())
        return right / len(labels)

    optimizer = ConfigurationOptimizer(tolerable_loss=arguments.loss)
    started = time.perf_counter()
    tuning = TuningConfig(config_set=configs(), sampler=optimizer)
    best = autotune(model, tuning, eval_fn=optimizer.scoring(accuracy), run_fn=calibrate)
    seconds, found = time.perf_counter() - started, optimizer.best
    print(f"autotune: {optimizer.evaluations} evaluations, {found.cost_ratio:.4f} of the given model's cost at a "
          f"loss of {found.loss:.2%}, in {seconds:.0f} s; {', '.join(best.chain)}")  # fmt: skip

    given = accuracy(model)
    least = given * (1 - arguments.loss)
    macs, grid = count_macs(model, (inputs[:2],)), []
    for config in configs():
        try:
            made = quantize(copy.deepcopy(model), config, run_fn=calibrate)
        except PassError as error:  # such a place of the grid is empty
            print(f"  grid: {error}")
            continue
        grid += _grid(made, scored, labels, arguments.steps, macs)
    fitting = [cost for cost, score in grid if score >= least]
    if not fitting:
        sys.exit("no place of the grid keeps the loss")
    share, over = optimizer.evaluations / len(grid), found.cost_ratio / min(fitting)
    print(f"grid: {len(grid)} evaluations, {min(fitting):.4f} at its best")
    print(f"autotune / grid: {share:.1%} of the evaluations, {over:.3f} of the cost")
    sys.exit(0 if share <= 0.1 and over <= 1.02 and found.meets else 1)


def _grid(made, scored: np.ndarray, labels: np.ndarray, steps: int, macs: float) -> list[tuple[float, float]]:
    """Cost over the given model, and accuracy, of every place of a grid of thresholds."""
    known = made.records
    costs = ChainCost(
        dict(zip(known.stages, known.own_cost, strict=True)), dict(zip(known.stages, known.prefix_cost, strict=True))
    )
    positions = {"final": int(known.positions[-1])}
    records = make_records(made, [scored], labels, costs, positions)
    values, places = [*np.linspace(0.4, 0.99, steps - 1), np.inf], []
    for thresholds in itertools.product(values, repeat=len(made.chain)):
        used = tuple((name, each) for name, each in zip(made.chain, thresholds, strict=True) if each < np.inf)
        configuration = Configuration(used, made.fuse)
        places.append((evaluate(known, configuration).cost / macs, evaluate(records, configuration).accuracy))
    return places


if __name__ == "__main__":
    main()
