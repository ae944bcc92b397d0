"""About how long each step of a run takes: as `plan` has found for the recipe, else from one short measurement."""

import json
import time
from collections.abc import Sequence

import torch

from ..core.hashing import digest
from ..core.process_state import preserve_process_state
from ..data.run_inputs import RunInputs
from ..passes import PruningStanza
from ..passes.early_exit import EarlyExitStanza
from ..passes.quantization import int8_options
from ..passes.tiny_saver.makers import MakerStanza, TrainedMakerStanza, choose_makers
from ..passes.training import as_model_input
from ..pipeline.steps import BACKBONE, EXITS, FIGURES, FILE, POINTS, RECORDS, SAVERS, STATIC, STATIC_SEARCH
from ..recipe.recipe import Recipe
from ..targets.stage_costs import TIME_LIMIT
from .plan_tables import StepPlan

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
# samples of the measurement; seconds of an export, of a training step of a small net at least, and of a search
_SAMPLES, _EXPORT, _LEAST_STEP, _SEARCH = 8, 1.5, 0.01, 5.0
# a training step takes as long as so many answers
_TRAINING = 3


def keep_estimate(recipe: Recipe, steps: Sequence[StepPlan]) -> None:
    """Keep the seconds of a plan's steps in the recipe's cache, for the run."""
    recipe.dynamic_exit.cache.open().keep(_key(recipe), {row["step"]: row["seconds"] for row in steps})


def estimate_steps(run_inputs: RunInputs) -> dict[str, float]:
    """Return the seconds of a run's steps by name, roughly; a step that is not in it takes next to no time.

    Args:
        run_inputs: What the recipe names; where nobody has planned it, the backbone answers a few samples.
    """
    recipe = run_inputs.recipe
    planned = recipe.dynamic_exit.cache.open().value(_key(recipe))
    if planned is None:
        found = _guess(run_inputs)
    else:
        found = dict.fromkeys(_STEPS.values(), 0.0)
        for name, seconds in planned.items():
            found[_STEPS.get(name, STATIC)] += seconds
        found[FIGURES] = found[FILE] = found[FILE] / 2
    if recipe.choices:
        made = (STATIC, BACKBONE, SAVERS, EXITS, RECORDS)
        found[STATIC_SEARCH] = sum(found.pop(name, 0.0) for name in made)
    return found


def _key(recipe: Recipe) -> str:
    values = recipe.model_dump(mode="json")
    values["export"].pop("directory")
    return digest("plan", json.dumps(values, sort_keys=True))


def _guess(run_inputs: RunInputs) -> dict[str, float]:
    recipe, dynamic = run_inputs.recipe, run_inputs.recipe.dynamic_exit
    sizes = {name: len(split) for name, split in run_inputs.splits.items()}
    answer, train = _seconds_per_sample(run_inputs), sizes["train"]
    recorded = sizes["calibration"] + sizes["test"]
    found: dict[str, float] = {}
    pruning = next((each for each in recipe.static_passes.values() if isinstance(each, PruningStanza)), None)
    if pruning:
        found[STATIC] = pruning.fine_tune.epochs * train * (_TRAINING + 1) * answer
    quantized = 2 * sizes["calibration"] * answer if int8_options(recipe.quantization) else 0.0
    exits, points = dynamic.early_exit, len(dynamic.tuning.goals)
    found[BACKBONE] = _EXPORT * (1 + _cuts(exits)) + quantized
    if dynamic.tiny_saver:
        makers = choose_makers(dynamic.tiny_saver.makers, run_inputs.example)
        found[SAVERS] = _savers(len(dynamic.tiny_saver.models), makers, train, sizes["calibration"], answer)
    if exits:
        found[EXITS] = train * exits.training.views * answer + exits.training.epochs * train * 2e-5
    found[RECORDS] = recorded * answer
    found[POINTS] = _SEARCH
    found[FILE] = 4 * (points + 1) * sizes["test"] * answer + _EXPORT
    found[FIGURES] = min(2 * TIME_LIMIT, 60 * 640 * (points + 2) * answer)
    return {name: seconds * max(1, len(recipe.choices)) for name, seconds in found.items()}


def _cuts(exits: EarlyExitStanza | None) -> int:
    if exits is None:
        return 0
    return exits.count if isinstance(exits.positions, str) else len(exits.positions)


def _savers(models: int, makers: Sequence[MakerStanza], train: int, calibration: int, answer: float) -> float:
    """Return the seconds to run the candidates, and to make those that are made."""
    seconds = models * (_EXPORT + 0.2 * calibration * answer) + calibration * answer
    for maker in makers:
        if not isinstance(maker, TrainedMakerStanza):  # such as convolutions that are not trained: seconds
            continue
        schedule = maker.schedule(train)
        seconds += train * schedule.views * answer
        for share in maker.shares:
            step = max(_LEAST_STEP, schedule.batch_size * share * _TRAINING * answer)
            seconds += schedule.steps * step + _EXPORT
    return seconds


@preserve_process_state()
def _seconds_per_sample(run_inputs: RunInputs) -> float:
    split = run_inputs.splits["calibration"]
    batch = [as_model_input(tensor[:_SAMPLES]) for tensor in run_inputs.backbone.select(split.tensors)]
    with torch.no_grad():
        run_inputs.backbone(*batch)
        started = time.perf_counter()
        run_inputs.backbone(*batch)
    return (time.perf_counter() - started) / len(batch[0])
