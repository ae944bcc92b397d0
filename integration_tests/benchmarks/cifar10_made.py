"""Savers that are made on CIFAR-10: `python cifar10_made.py --work DIR [--draws 10] [--set key=value ...]`.

Runs recipes/cifar10_made.yaml, which is given no saver, in int8 with seconds as the cost; what it made stays in DIR, so
that a second call trains nothing. Then the search is repeated on random halves of `dev` and reported on the others,
both ways round, with the made savers alone, the given ones alone (those of recipes/cifar10_resnet56.yaml), and all.
Speed is over the backbone in float, at batch 64 and 1, by the seconds of each stage as exported, measured in turn in
this process on one thread. Bars at a change of -0.5 points or better: made alone 7x and 5x, together 8.5x and 6x.
"""

import argparse
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cifar10 import DROPS, GOALS, halves
from cifar10 import RECIPE as GIVEN

from dynamic_exit.candidates.evaluation import CandidateEvaluation
from dynamic_exit.candidates.pool import CandidatePool
from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.cli.render import print_candidates, print_figures
from dynamic_exit.core.cache import Cache, open_cache
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.run import run
from dynamic_exit.pipeline.stages import Build, add_costs, export_backbone, record_split
from dynamic_exit.recipe import Recipe, read_recipe
from dynamic_exit.records import Records
from dynamic_exit.runtime.stages import Stage
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.targets.stage_costs import time_stages
from dynamic_exit.tuning.optimizer import optimize

MADE = GIVEN.with_name("cifar10_made.yaml")
BATCH_SIZES = (64, 1)
SAVERS = 3


def built(recipe: Recipe, cache: Cache) -> Build:
    """The int8 backbone behind every saver of the recipe that could be used, chosen or not."""
    run_inputs = load_run_inputs(recipe)
    build = export_backbone(run_inputs)
    evaluation = CandidateEvaluation(CandidatePool(run_inputs, cache), build.stages, build.target)
    evaluation.run()
    savers = {name: evaluation.stage(name) for name in evaluation.answers if name != "final"}
    return add_costs(replace(build, stages=build.stages.add_savers(savers, "mean")), cache)


def float_backbone(recipe: Recipe) -> Stage:
    """The backbone as it would be exported without quantization."""
    (stage,) = export_backbone(load_run_inputs(recipe.model_copy(update={"quantization": None}))).stages.segments
    return stage


def at_batch_size(records: Records, build: Build, seconds: dict[str, float]) -> Records:
    """The same answers at measured costs."""
    costs = build.stages.costs(lambda stage: seconds[stage.part.name], "seconds")
    own, prefix = (np.array([each[name] for name in records.stages]) for each in (costs.own, costs.prefix))
    return records.with_costs(own, prefix)


def report(name: str, records: Records, baseline: float, draws: int) -> None:
    """Print speed over the float backbone and change of accuracy, means over all halves."""
    rows = []
    for draw in range(draws):
        first, second = halves(records, draw)
        for searched, reported in ((first, second), (second, first)):
            found = optimize(searched, GOALS, SearchOptions(fuse="mean", max_savers=SAVERS, seed=draw))
            figures = [evaluate(reported, configuration) for configuration in found]
            rows.append([(each.cost / baseline, -100 * each.accuracy_drop) for each in figures])
    mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
    cells = [
        f"{1 / cost:5.2f}x {change:+.2f} (sd {sd[1]:.2f})" for (cost, change), sd in zip(mean, spread, strict=True)
    ]
    print(f"{name:28} {'   '.join(cells)}", flush=True)


def main() -> None:
    """Run the recipe, then search on halves."""
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps what is made")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    overrides: dict[str, Any] = {
        key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)
    }
    overrides |= {"dynamic_exit.cache.directory": str(work / "cache"), "export.directory": str(work / "folder")}
    recipe = read_recipe(MADE, overrides)
    started = time.perf_counter()
    metrics = run(recipe).metrics
    print_candidates(metrics)
    print_figures(metrics)
    print(f"the recipe ran in {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)

    given = read_recipe(GIVEN, {"dynamic_exit.early_exit": None}).dynamic_exit.tiny_saver
    stanza = recipe.dynamic_exit.tiny_saver
    assert given is not None and stanza is not None, "both recipes have savers"
    both = stanza.model_copy(update={"candidates": [*stanza.candidates, *given.candidates]})
    everything = recipe.model_copy(update={"dynamic_exit": recipe.dynamic_exit.model_copy(update={"tiny_saver": both})})
    build = built(everything, open_cache(str(work / "cache"), True))
    records = Records.join([record_split(build, split) for split in ("calibration", "test")], along="samples")
    made = [name for name in build.stages.savers if name not in {each.stage_name for each in given.candidates}]
    lent = [name for name in build.stages.savers if name not in made]
    stages = {stage.part.name: stage for stage in build.stages.all_stages} | {"float": float_backbone(recipe)}
    for batch_size in BATCH_SIZES:
        seconds = time_stages(stages, Cache(None), batch_size)  # anew, so that all are measured in turn
        timed = at_batch_size(records, build, seconds)
        for stage in timed.stages:
            right = (timed.topk_classes[timed.stages.index(stage), :, 0] == timed.truth).mean()
            own = timed.own_cost[timed.stages.index(stage)] or timed.baseline_cost
            print(f"batch {batch_size:2} {stage:20} {own / seconds['float']:.3f} of float, {right:.2%} right")
        print(f"{'':28} speed over float and change in points against int8, at {DROPS} allowed")
        for name, savers in (("made", made), ("given", lent), ("made and given", [*made, *lent])):
            report(f"batch {batch_size}: {name}", timed.select(savers), seconds["float"], arguments.draws)


if __name__ == "__main__":
    main()
