"""Pruning alone on CIFAR-10 resnet56: `python pruning.py [--set key=value ...] [--save DIR] [--threads 2]`.

    DYNAMIC_EXIT_DATA=... python integration_tests/benchmarks/pruning.py

Runs the `pruning` stanza of recipes/cifar10_resnet56_pruned.yaml with its seed, fine-tuned on the 50,000 images of
`train`, and prints multiply-adds, accuracy on the 5,000 of `dev`, which nothing has seen, and seconds. --save keeps the
pruned weights: `load_pruned(resnet(56), DIR)`, or `weights: DIR` in a recipe.
Bar: at least 40 % fewer multiply-adds, at most 1 point of accuracy lost, under 20 minutes on 2 cores.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from dynamic_exit.cost import count_macs
from dynamic_exit.passes.pruning import prune, save_pruned
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import read_recipe

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "cifar10_resnet56_pruned.yaml"
BATCH = 250


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of right answers."""
    answers = torch.cat([model(batch).argmax(1) for batch in inputs.split(BATCH)])
    return (answers == labels).double().mean().item()


def main() -> None:
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `dynamic-exit run`")
    parser.add_argument("--save", type=Path, help="folder for the pruned weights")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    overrides = {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in options.set)}
    run_inputs = load_run_inputs(read_recipe(RECIPE, overrides))
    train = run_inputs.splits["train"]
    dev = [run_inputs.splits[name] for name in ("calibration", "test")]
    inputs = torch.cat([torch.from_numpy(each) for split in dev for each in split.inputs.values()])
    labels = torch.cat([torch.from_numpy(split.labels) for split in dev])
    example, before = tuple(run_inputs.example.values()), run_inputs.backbone
    samples = (*train.tensors.values(), torch.from_numpy(train.labels))
    clock, work = time.perf_counter(), time.process_time()
    recipe = run_inputs.recipe
    pruned = prune(before, example, recipe.pruning, samples, recipe.seed)
    seconds, worked = time.perf_counter() - clock, time.process_time() - work
    if options.save:
        save_pruned(pruned.model, before.model, options.save)
    macs = [count_macs(each, example) for each in (before, pruned)]
    right = [accuracy(each, inputs, labels) for each in (before, pruned)]
    fewer = 1 - macs[1] / macs[0]
    print(f"multiply-adds: {macs[0] / 1e6:.1f} M before, {macs[1] / 1e6:.1f} M after, {fewer:.1%} fewer")
    print(f"accuracy on {len(labels)} images of dev: {right[0]:.2%} before, {right[1]:.2%} after, "
          f"{100 * (right[1] - right[0]):+.2f} points")  # fmt: skip
    print(f"seconds: {seconds:.0f} by the clock, {worked:.0f} of processor time, {options.threads} threads")


if __name__ == "__main__":
    main()
