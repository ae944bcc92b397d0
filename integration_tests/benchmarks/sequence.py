"""What the exit sequence network adds on CIFAR-10: `python sequence.py [--saver resnet8] [--records FILE]`.

A ResNet-56, one saver, some positions: the same heads with the sequence network and without it, in float, costs
in multiply-adds. Thresholds are searched on one half of `dev` and measured on the other, both ways round; costs are
compared at equal measured accuracy, mean over draws. --records keeps what was run; --set changes the recipe.
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from cifar10 import RECIPE, halves

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.core.user_code import load_function
from dynamic_exit.data.run_inputs import RunInputs
from dynamic_exit.data.split import Split
from dynamic_exit.errors import TuningError
from dynamic_exit.pipeline.exits import add_exits
from dynamic_exit.pipeline.stages import export_backbone, record_split
from dynamic_exit.points.goal import Goal
from dynamic_exit.recipe import Recipe, read_recipe
from dynamic_exit.records import Records
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.targets.base import ExportRequest
from dynamic_exit.targets.onnxruntime import OnnxRuntimeTarget
from dynamic_exit.targets.stage_costs import stage_macs
from dynamic_exit.tuning.optimizer import optimize

GOALS = [Goal(max_accuracy_drop=drop) for drop in np.linspace(-0.004, 0.02, 9).tolist()]
#: Accuracy changes in points at which costs are compared.
CHANGES = (-0.5, -0.75, -1.0, -1.5, -2.0)
SETTINGS = {
    "dynamic_exit.early_exit.count": 4,
    "dynamic_exit.early_exit.heads": ["linear", {"kind": "attention", "queries": 16}],
    "dynamic_exit.early_exit.sequence": {},
    "dynamic_exit.early_exit.training": {"epochs": 12, "batch_size": 128, "augment": "affine", "views": 2},
}


def exit_records(recipe: Recipe, saver: str | None, samples: int) -> Records:
    """Records of a saver and all exits on the whole of `dev`, trained on the first samples of `train`."""
    load = load_function(recipe.data.path)
    images, labels = (array[:samples] for array in load("train"))
    inputs, truth = load("dev")
    model, example = load_model(recipe.model), torch.from_numpy(inputs[:2])
    (name,) = model.name_inputs(1)
    splits = {
        "train": Split("train", {name: images}, labels),
        "calibration": Split("calibration", {name: inputs}, truth),
    }
    run_inputs = RunInputs(recipe, model, splits, {}, {name: example}, False, 10, [])
    target = OnnxRuntimeTarget(None, {name: images[:64]}, threads=1)
    build = export_backbone(run_inputs, lambda *_: (target, ()))
    if saver:
        sources = {source.stage_name: source for source in recipe.dynamic_exit.tiny_saver.candidates}
        stage = target.export_stage(ExportRequest(saver, load_model(sources[saver]), (name,), "logits", (example,)))
        build = replace(build, stages=build.stages.add_savers({saver: stage}, "none"))
    build = add_exits(build)
    return record_split(replace(build, costs=stage_macs(build.stages)), "calibration")


def curve(records: Records, fuse: str, draws: int) -> np.ndarray:
    """Measured cost ratio and accuracy change in points per goal (goals, 2), mean over draws and both ways round."""
    rows = []
    for draw in range(draws):
        parts = halves(records, draw)
        for searched, reported in (parts, parts[::-1]):
            for place, goal in enumerate(GOALS):
                try:
                    (found,) = optimize(searched, [goal], SearchOptions(fuse=fuse, seed=draw), crossfit=False)
                except TuningError:  # more than any configuration gives on these samples
                    continue
                figures = evaluate(reported, found)
                rows.append((place, figures.cost_ratio, -100 * figures.accuracy_drop))
    found = np.array(rows)
    return np.array([found[found[:, 0] == place, 1:].mean(0) for place in np.unique(found[:, 0])])


def main() -> None:
    """Run the comparison."""
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saver", default="resnet8", help="stage name of a candidate of the recipe, or none")
    parser.add_argument("--records", type=Path, help="file that keeps the records")
    parser.add_argument("--samples", type=int, default=10_000, help="training images")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    overrides = SETTINGS | {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    saver = None if arguments.saver == "none" else arguments.saver
    if arguments.records and arguments.records.exists():
        records = Records.read(arguments.records)
    else:
        records = exit_records(read_recipe(RECIPE, overrides), saver, arguments.samples)
        if arguments.records:
            records.write(arguments.records)
    for place, stage in enumerate(records.stages):
        print(f"{stage:28} right {(records.topk_classes[place, :, 0] == records.truth).mean():.2%}")
    without = records.select([stage for stage in records.stages[:-1] if not stage.endswith(":sequence")])
    for fuse in ("none", "mean"):
        curves = {name: curve(each, fuse, arguments.draws) for name, each in (("with", records), ("without", without))}
        costs = {}
        for name, points in curves.items():
            print(f"fuse {fuse}, {name}: {'  '.join(f'{cost:.3f} at {change:+.2f}' for cost, change in points)}")
            cost, change = points[np.argsort(points[:, 1])].T
            # nothing is said beyond what was measured
            costs[name] = np.interp(CHANGES, change, cost, left=np.nan, right=np.nan)
        shares = "  ".join(
            f"{share:+.1%} at {at:+.2f}"
            for share, at in zip(costs["with"] / costs["without"] - 1, CHANGES, strict=True)
        )
        print(
            f"fuse {fuse}: with the sequence network, cost at equal measured accuracy changes by {shares}", flush=True
        )


if __name__ == "__main__":
    main()
