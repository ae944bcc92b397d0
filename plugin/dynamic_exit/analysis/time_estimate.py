"""About how long each step of a run takes: as `plan` has found for the recipe, else from one short measurement."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..candidates.making import MakingPlan, plan_makings
from ..core.hashing import digest
from ..core.process_state import preserve_process_state
from ..data.run_inputs import RunInputs
from ..data.split import UNLABELLED
from ..passes import PruningStanza
from ..passes.early_exit import EarlyExitStanza
from ..passes.quantization import int8_options
from ..passes.tiny_saver.makers import choose_makers
from ..passes.training import as_model_input
from ..pipeline.steps import BACKBONE, EXITS, FIGURES, FILE, POINTS, RECORDS, SAVERS, STATIC, STATIC_SEARCH, UPGRADE
from ..recipe.recipe import Recipe
from ..targets.stage_costs import TIME_LIMIT
from .plan_tables import StepPlan
from .probes import training_step

# the steps of a plan, as a run calls them; one step of a plan is two of a run
_STEPS = {
    "prune and fine-tune": STATIC,
    "choose a quantization": BACKBONE,
    "export the backbone": BACKBONE,
    "try candidates": SAVERS,
    "make savers": SAVERS,
    "fine-tune candidates": SAVERS,
    "train exits": EXITS,
    "make records": RECORDS,
    "search thresholds": POINTS,
    "prove and measure the file": FILE,
}
# samples of the measurement, of which the second takes place where the first was done in so many seconds
_SAMPLES, _QUICK = (8, 64), 0.3
# seconds of an export and of a search
_EXPORT, _SEARCH = 1.5, 8.0
# a training step takes as long as so many answers, and an answer of the exported model as long as this part of one
_TRAINING, _EXPORTED = 3, 0.4


class TimeEstimate(NamedTuple):
    """About how many seconds a run takes.

    Attributes:
        steps: Of its steps by name; a step that is not in it takes next to no time.
        parts: Of a step's parts by name, in order, for steps that tell of parts: the first one, which has no name, is
            all that is not in another. Parts that are told of are trainings.
    """

    steps: dict[str, float]
    parts: dict[str, dict[str, float]]


def keep_estimate(recipe: Recipe, steps: Sequence[StepPlan], trainings: Mapping[str, float]) -> None:
    """Keep the seconds of a plan's steps, and of trainings of savers by name, in the recipe's cache, for the run."""
    kept = {"steps": {row["step"]: row["seconds"] for row in steps}, "trainings": dict(trainings)}
    recipe.dynamic_exit.cache.open().keep(_key(recipe), kept)


def estimate_steps(run_inputs: RunInputs) -> TimeEstimate:
    """Return the seconds of a run's steps and of their parts, roughly.

    Args:
        run_inputs: What the recipe names; where nobody has planned it, the backbone answers a few samples, and the
            cheapest and the most expensive saver take a step of their training.
    """
    recipe = run_inputs.recipe
    planned = recipe.dynamic_exit.cache.open().value(_key(recipe))
    if planned is None:
        found, trainings = _guess(run_inputs)
    else:
        found, trainings = dict.fromkeys(_STEPS.values(), 0.0), planned["trainings"]
        for name, seconds in planned["steps"].items():
            found[_STEPS.get(name, STATIC)] += seconds
        found[FIGURES] = found[FILE] = found[FILE] / 2
    if recipe.choices or recipe.upgrade:
        made = (STATIC, BACKBONE, SAVERS, EXITS, RECORDS)
        found[STATIC_SEARCH if recipe.choices else UPGRADE] = sum(found.pop(name, 0.0) for name in made)
    if SAVERS not in found or not trainings:
        return TimeEstimate(found, {})
    rest = max(0.0, found[SAVERS] - sum(trainings.values()))
    return TimeEstimate(found, {SAVERS: {"": rest, **trainings}})


def _key(recipe: Recipe) -> str:
    values = recipe.model_dump(mode="json")
    values["export"].pop("directory")
    return digest("plan with trainings", json.dumps(values, sort_keys=True))


@preserve_process_state()
def _guess(run_inputs: RunInputs) -> tuple[dict[str, float], dict[str, float]]:
    recipe, dynamic = run_inputs.recipe, run_inputs.recipe.dynamic_exit
    sizes = {name: len(split) for name, split in run_inputs.splits.items()}
    answer, train = _seconds_per_sample(run_inputs), sizes["train"]
    recorded = sizes["calibration"] + sizes["test"]
    found: dict[str, float] = {}
    trainings: dict[str, float] = {}
    pruning = next((each for each in recipe.static_passes.values() if isinstance(each, PruningStanza)), None)
    if pruning:
        found[STATIC] = pruning.fine_tune.epochs * train * (_TRAINING + 1) * answer
    exits, points = dynamic.early_exit, len(dynamic.tuning.goals)
    found[BACKBONE] = _EXPORT * (1 + _cuts(exits)) + _quantizing(recipe, sizes["calibration"] * answer)
    if dynamic.tiny_saver:
        plans = plan_makings(run_inputs, choose_makers(dynamic.tiny_saver.makers, run_inputs.example))
        trainings = _trainings(run_inputs, plans)
        given, views = len(dynamic.tiny_saver.models), max((plan.views for plan in plans), default=0)
        answers = views * (train + sizes.get(UNLABELLED, 0)) + (1 + 0.2 * given) * sizes["calibration"]
        found[SAVERS] = (given + len(plans)) * _EXPORT + answers * _EXPORTED * answer + sum(trainings.values())
    if exits:
        found[EXITS] = train * exits.training.views * answer + exits.training.epochs * train * 2e-5
    found[RECORDS] = recorded * _EXPORTED * answer
    found[POINTS] = _SEARCH
    found[FILE] = 4 * (points + 1) * sizes["test"] * answer + _EXPORT
    found[FIGURES] = min(2 * TIME_LIMIT, 60 * 640 * (points + 2) * answer)
    times = max(1, len(recipe.choices), len(recipe.upgrade.backbones) if recipe.upgrade else 0)
    return {name: seconds * times for name, seconds in found.items()}, trainings


def _quantizing(recipe: Recipe, recording: float) -> float:
    """Return the seconds to quantize a backbone whose answers to the calibration samples take `recording` seconds."""
    algorithms = len(recipe.quantization or {})
    if algorithms > 1 and recipe.model.quantize:  # each is made and measured against the others
        return algorithms * (2 * recording + 2 * _EXPORT) + TIME_LIMIT
    return 2 * recording if int8_options(recipe.quantization) else 0.0


def _trainings(run_inputs: RunInputs, plans: Sequence[MakingPlan]) -> dict[str, float]:
    """Return the seconds of the training of each saver that is made, from one step of the cheapest and the dearest."""
    trained = sorted((plan for plan in plans if plan.steps[0]), key=lambda plan: plan.spec.macs)
    if not trained:
        return {}
    probes = trained[:: max(1, len(trained) - 1)]
    seconds = []
    for plan in probes:
        step = training_step(plan.spec.load(), run_inputs.splits["train"], plan.steps[1])
        step()
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    macs = [plan.spec.macs for plan in probes]
    return {
        plan.spec.name: plan.steps[0] * float(np.interp(plan.spec.macs, macs, seconds))
        for plan in plans
        if plan in trained
    }


def _cuts(exits: EarlyExitStanza | None) -> int:
    if exits is None:
        return 0
    return exits.count if isinstance(exits.positions, str) else len(exits.positions)


def _seconds_per_sample(run_inputs: RunInputs) -> float:
    """Return the seconds of the backbone's answer to a sample, of some: of more where it is quick."""
    tensors = run_inputs.backbone.select(run_inputs.splits["calibration"].tensors)
    with torch.no_grad():
        run_inputs.backbone(*(as_model_input(tensor[: _SAMPLES[0]]) for tensor in tensors))
        for few in _SAMPLES:
            batch = [as_model_input(tensor[:few]) for tensor in tensors]
            started = time.perf_counter()
            run_inputs.backbone(*batch)
            seconds = time.perf_counter() - started
            if seconds > _QUICK:
                break
    return seconds / len(batch[0])
