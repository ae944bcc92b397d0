"""Runs a recipe: static passes, savers, exits, records, thresholds, one ONNX file, proof, figures, folder."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import DynamicExitError
from ..passes.pruning import prune
from ..passes.quantization import int8_options
from ..passes.tiny_saver import ALWAYS, Candidate, select_savers
from ..records import Records
from ..runtime.recorder import make_records
from ..tuning.evaluation import Configuration, evaluate
from ..tuning.operating_point import Goal, OperatingPoints
from ..tuning.optimizer import split, tune
from .build import Shipper, Stages, cut_backbone, ship_exits
from .folder import Workspace
from .load import Ingredients, load
from .measure import measure, stage_seconds
from .prove import File, stitch_file, verify
from .schema import Recipe
from .sources import Split

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a run made.

    Attributes:
        folder: Where it was written.
        points: The operating points.
        metrics: Everything measured, as in ``metrics.json``.
    """

    folder: Path
    points: OperatingPoints
    metrics: dict[str, Any]


def run(
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    splits: Mapping[str, Split] | None = None,
    say: Say = lambda line: None,
) -> Result:
    """Run a recipe from its ingredients to its folder.

    Args:
        recipe: The recipe.
        model: A classifier to use in place of the recipe's.
        splits: Samples to use in place of the recipe's.
        say: Takes one line for each step.

    Returns:
        The folder, its operating points and everything measured.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    started = time.perf_counter()
    workspace = Workspace(recipe.export.directory)
    ingredients = load(recipe, model, splits)
    if recipe.pruning:
        ingredients = _prune(ingredients, say)
    backbone = cut_backbone(ingredients.backbone, ingredients.example, recipe.dynamic_exit.early_exit)
    say(f"backbone: {backbone.depth} cuts found, {len(backbone.cuts)} in use")
    shipper = Shipper(int8_options(recipe.quantization), [ingredients.splits["calibration"].inputs], threads=1)
    stages = Stages(backbone.input_names, shipper.ship_backbone(backbone, say), {"final": backbone.depth})
    candidates = _pick_savers(stages, shipper, ingredients, say)
    if recipe.dynamic_exit.early_exit:
        train = ingredients.splits["train"]
        stanza = recipe.dynamic_exit.early_exit
        ship_exits(stages, backbone, shipper, stanza, train.inputs, train.labels, recipe.seed, say)
    costs = _costs(stages, recipe)
    calibration, test = (_records(stages, ingredients.splits[key], costs) for key in ("calibration", "test"))
    workspace.save(calibration)
    try:
        points = _tune(ingredients, calibration, test, stages.fuse)
        stages = stages.only([stage.stage for point in points.points for stage in point.stages])
        say(f"stages in use: {', '.join((*stages.savers, *stages.exits)) or 'none, nothing pays off'}")
        files = _stitch(stages, points, ingredients)
        agreements = verify(stages, files, points, ingredients)
        say("verified: at every operating point the file answers as its model does, on every test sample")
        metrics = {
            "_type": "dynamic_exit.metrics",
            "_version": 1,
            "seed": recipe.seed,
            "samples": {key: len(samples) for key, samples in ingredients.splits.items()},
            **measure(stages, files, points, ingredients),
            "notes": list(points.notes),
            "candidates": [vars(candidate) for candidate in candidates],
            "stages": _alone(calibration),
            "verification": {key: vars(agreement) for key, agreement in agreements.items()},
            "seconds": round(time.perf_counter() - started, 1),
        }
        folder = workspace.finish(ingredients, stages, files["shipped"].model, points, metrics)
    except DynamicExitError as error:
        raise type(error)(f"{error} (the records made so far are kept in '{workspace.partial}')") from error
    return Result(folder, points, metrics)


def _prune(ingredients: Ingredients, say: Say) -> Ingredients:
    train, stanza = ingredients.splits["train"], ingredients.recipe.pruning
    samples = (train.tensor, torch.from_numpy(train.labels))
    pruned = prune(ingredients.backbone, ingredients.example, stanza, samples, ingredients.recipe.seed)
    say(f"pruned: {stanza.ratio:.0%} of the channels")
    return replace(ingredients, backbone=pruned)


def _pick_savers(stages: Stages, shipper: Shipper, ingredients: Ingredients, say: Say) -> list[Candidate]:
    """Ship all candidates, keep those that the pass chooses on the calibration split."""
    dynamic, seed = ingredients.recipe.dynamic_exit, ingredients.recipe.seed
    if dynamic.tiny_saver is None:
        return []
    stages.fuse = dynamic.tiny_saver.fuse
    for name, candidate in ingredients.candidates.items():
        stages.savers[name] = shipper.ship_saver(name, candidate, stages.input_names)
    costs = _costs(stages, ingredients.recipe)
    records = _records(stages, ingredients.splits["calibration"], costs)
    drop = dynamic.tuning.max_accuracy_drop
    candidates = select_savers(records, dynamic.tiny_saver.max_savers, stages.fuse, drop, seed)
    chosen = sorted((c for c in candidates if c.chosen), key=lambda candidate: candidate.cost)
    stages.savers = {candidate.stage: stages.savers[candidate.stage] for candidate in chosen}
    say(f"savers: {', '.join(stages.savers) or 'none saves anything'} out of {len(candidates)} candidates")
    return candidates


def _costs(stages: Stages, recipe: Recipe) -> dict[str, Any]:
    """Cost of every stage in the unit that the recipe asks for; measured once, so that all records agree."""
    latency = recipe.dynamic_exit.tuning.cost == "latency"
    seconds = stage_seconds(stages) if latency else {}
    own, prefix = stages.costs(lambda stage: seconds[stage.part.name] if latency else stage.macs)
    return {"own_cost": own, "prefix_cost": prefix, "cost_unit": "seconds" if latency else "macs"}


def _records(stages: Stages, samples: Split, costs: Mapping[str, Any]) -> Records:
    """Make the records of one split, with the numerics that ship."""
    return make_records(stages.model("session"), [samples.inputs], samples.labels, positions=stages.positions, **costs)


def _tune(ingredients: Ingredients, calibration: Records, test: Records, fuse: str) -> OperatingPoints:
    """Search on calibration samples, report on test samples; a guarantee is tested on a part of its own."""
    recipe = ingredients.recipe
    tuning, proof = recipe.dynamic_exit.tuning, None
    if tuning.guarantee is not None:
        searched, _, proven = split(len(calibration), 0.5, False, recipe.seed)
        calibration, proof = calibration.take(searched), calibration.take(proven)
    goals = [Goal(max_accuracy_drop=goal.max_accuracy_drop, budget=goal.budget) for goal in tuning.goals]
    points = tune(
        calibration, test, goals, fuse=fuse, seed=recipe.seed, guarantee_records=proof, guarantee=tuning.guarantee
    )
    named = [
        point.model_copy(update={"name": goal.name or point.name})
        for goal, point in zip(tuning.goals, points.points, strict=True)
    ]
    return points.model_copy(update={"points": tuple(named)})


def _stitch(stages: Stages, points: OperatingPoints, ingredients: Ingredients) -> dict[str, File]:
    default = ingredients.recipe.dynamic_exit.tuning.default_goal
    point = points.points[default]
    return {
        "float": stitch_file(stages, "float_part", points, point, ingredients),
        "shipped": stitch_file(stages, "part", points, point, ingredients),
    }


def _alone(records: Records) -> list[dict[str, Any]]:
    """How every stage would do alone, on the samples that were searched."""
    figures = []
    for index, stage in enumerate(records.stages):
        always = Configuration(((stage, ALWAYS),) if stage != records.stages[-1] else ())
        result = evaluate(records, always)
        share = float(records.prefix_cost[index] / records.prefix_cost[-1])
        figures.append(
            {"stage": stage, "accuracy": result.accuracy, "cost_ratio": result.cost_ratio, "backbone_before": share}
        )
    return figures
