"""Plans a recipe: shapes, costs and estimated times. Nothing is trained, and nothing is kept but decoded images."""

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..candidates.backbones import survey_backbones
from ..candidates.making import MakingPlan
from ..candidates.pool import CandidatePool
from ..candidates.survey import CandidateSpec
from ..chain.names import HIDDEN
from ..core.cache import Cache
from ..core.mapped_arrays import is_mapped
from ..core.process_state import preserve_process_state
from ..cost import count_macs
from ..data.run_inputs import RunInputs
from ..data.split import UNLABELLED
from ..graph.backbone import Backbone
from ..passes import PruningStanza
from ..passes.early_exit import EarlyExitStanza
from ..passes.early_exit.heads import build_head
from ..pipeline.backbone import cut_backbone
from ..pipeline.inputs import load_run_inputs
from ..pipeline.static_passes import apply_static_passes
from ..recipe.recipe import Recipe
from .plan_tables import (
    CandidatePlan,
    HeadPlan,
    Plan,
    PositionPlan,
    StaticSearchPlan,
    StepPlan,
)
from .probes import Estimate
from .time_estimate import keep_estimate

# steps of a plan that a run takes for one of the backbones of `upgrade` alone
_ONCE = ("search thresholds", "prove and measure the file")


@preserve_process_state()
def plan(recipe: Recipe) -> Plan:
    """Find out what a recipe would run.

    Pruning is done without training, so that shapes and costs are those of the pruned backbone; passes of other
    distributions are not run. Times are estimates from short probes on this machine.

    Args:
        recipe: The recipe.

    Returns:
        ``splits`` (samples), ``static`` (passes in order), ``quantization`` (what would be measured or exported),
        ``backbone``, ``positions`` (cuts in use), ``candidates`` (those that are made among them), ``memory`` (bytes of
        the samples, and of what makers keep beside them), ``process`` (bytes of models and libraries, as planning took
        them), ``disk`` (bytes of samples in mapped files), ``left_out``, ``steps`` with their estimated ``seconds``,
        ``static_search``, None if there is none, and ``upgrade``, its backbones. Of a recipe with `upgrade` all else is
        that of the largest backbone, and the steps are those of all chains together.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    if recipe.upgrade:
        return _plan_upgrade(recipe)
    cache = Cache(None)
    original = run_inputs = load_run_inputs(recipe)
    run_inputs.log_notes()
    pruning = next((each for each in recipe.static_passes.values() if isinstance(each, PruningStanza)), None)
    if pruning is not None:
        run_inputs = replace(apply_static_passes(_untrained(run_inputs, pruning), cache), recipe=recipe)
    pool = CandidatePool.of(run_inputs, cache)
    exits = recipe.dynamic_exit.early_exit
    backbone = cut_backbone(run_inputs.backbone, run_inputs.example, exits)
    macs = count_macs(run_inputs.backbone, run_inputs.backbone.select(run_inputs.example))
    positions = _positions(exits, backbone, macs) if exits else []
    estimate = Estimate(original, run_inputs, backbone, pool)
    steps, made = estimate.steps(), estimate.made
    search = _static_search(recipe, estimate) if recipe.choices else None
    planned = _rounded(steps)
    keep_estimate(recipe, search["steps"] if search else planned, {} if search else estimate.trainings)
    return {
        "splits": {key: len(split) for key, split in run_inputs.splits.items()},
        "static": [{"pass": name, **stanza.model_dump(mode="json")} for name, stanza in recipe.static_passes.items()],
        "quantization": _quantizations(recipe),
        "backbone": {
            "multiply_adds": macs,
            "given_multiply_adds": count_macs(original.backbone, original.backbone.select(original.example)),
            "parameters": sum(parameter.numel() for parameter in run_inputs.backbone.parameters()),
            "classes": run_inputs.classes,
            "inputs": {name: [*tensor.shape[1:]] for name, tensor in run_inputs.example.items()},
            "cuts_found": backbone.depth,
        },
        "positions": positions,
        "candidates": _candidates(run_inputs, [*pool.specs, *(each.spec for each in made)], macs) if pool else [],
        "memory": _memory(run_inputs, made),
        "process": _peak_memory(),
        "disk": _sample_bytes(run_inputs, mapped=True),
        "left_out": [{"stage": row.stage, "why": row.why} for row in pool.skipped] if pool else [],
        "steps": planned,
        "seconds": round(sum(steps.values()), 1),
        "static_search": search,
        "upgrade": [],
    }


def _plan_upgrade(recipe: Recipe) -> Plan:
    """Plan the chain of every backbone of `upgrade`."""
    run_inputs = load_run_inputs(recipe)
    today = count_macs(run_inputs.backbone, run_inputs.backbone.select(run_inputs.example))
    surveyed = sorted(survey_backbones(run_inputs, Cache(None)), key=lambda pair: pair[1].macs)
    plans = [plan(recipe.upgraded(source)) for source, _ in surveyed]
    seconds = dict[str, float]()
    for row in (row for each in plans for row in each["steps"] if row["step"] not in _ONCE):
        seconds[row["step"]] = seconds.get(row["step"], 0.0) + row["seconds"]
    seconds |= {row["step"]: row["seconds"] for row in plans[-1]["steps"] if row["step"] in _ONCE}
    steps = _rounded(seconds)
    keep_estimate(recipe, steps, {})
    found = plans[-1]
    found["steps"], found["seconds"] = steps, round(sum(seconds.values()), 1)
    found["upgrade"] = [
        {"backbone": spec.name, "multiply_adds": spec.macs, "ratio": spec.macs / today} for _, spec in surveyed
    ]
    return found


def _rounded(steps: Mapping[str, float]) -> list[StepPlan]:
    return [{"step": name, "seconds": round(seconds, 1)} for name, seconds in steps.items()]


def _untrained(run_inputs: RunInputs, stanza: PruningStanza) -> RunInputs:
    """Return the run inputs with a recipe that prunes in one step without training, and runs nothing else."""
    fine_tune = stanza.fine_tune.model_copy(update={"epochs": 0, "step_epochs": 0})
    untrained = stanza.model_copy(update={"steps": 1, "fine_tune": fine_tune})
    alone = run_inputs.recipe.with_static(untrained, run_inputs.recipe.quantization)
    alone._order = ("pruning",)
    return replace(run_inputs, recipe=alone)


def _quantizations(recipe: Recipe) -> list[str]:
    """Return the quantization that would be exported, or, of several, those that are measured first."""
    algorithms = [*(recipe.quantization or {})]
    return ["none", *algorithms] if len(algorithms) != 1 else algorithms


def _positions(stanza: EarlyExitStanza, backbone: Backbone, macs: float) -> list[PositionPlan]:
    """Describe the cuts in use, and the heads that are tried there."""
    rows: list[PositionPlan] = []
    for cut, following in zip(backbone.cuts, backbone.segments[1:], strict=True):
        hidden = following.example_inputs[following.input_names.index(HIDDEN)]
        heads: list[HeadPlan] = []
        for entry in stanza.entries:
            head = build_head(entry, cut.shape, backbone.classes, cut=cut.name).eval()
            cost = count_macs(head, (hidden,))
            heads.append({"head": entry.name, "multiply_adds": cost, "share": cost / macs})
        shape = [*cut.shape]
        rows.append({"position": cut.name, "cut": cut.index, "shape": shape, "share": cut.share, "heads": heads})
    return rows


def _candidates(run_inputs: RunInputs, specs: Sequence[CandidateSpec], macs: float) -> list[CandidatePlan]:
    """Describe the candidates that would be tried, from cheap to expensive."""
    rows: list[CandidatePlan] = []
    for spec in specs:
        given = run_inputs.candidates.get(spec.name)
        size = given.preprocessing.size if given else None
        inputs = {name: [*run_inputs.example[name].shape[1:]] for name in spec.input_names}
        if size:
            inputs = {name: [*shape[:-2], *size] for name, shape in inputs.items()}
        share = spec.macs / macs
        rows.append({"stage": spec.name, "multiply_adds": spec.macs, "share": share, "inputs": inputs})
    return rows


def _sample_bytes(run_inputs: RunInputs, mapped: bool) -> int:
    """Return the bytes of all samples in memory, or of those in mapped files."""
    arrays = [array for split in run_inputs.splits.values() for array in split.inputs.values()]
    return sum(array.nbytes for array in arrays if is_mapped(array) == mapped)


def _memory(run_inputs: RunInputs, made: Sequence[MakingPlan]) -> int:
    """Return the bytes of samples, of the backbone's answers on views, and of the largest saver in training."""
    samples = _sample_bytes(run_inputs, mapped=False)
    taught = len(run_inputs.splits["train"]) + len(run_inputs.splits.get(UNLABELLED, ()))
    answers = 4 * run_inputs.classes * taught * max((each.views for each in made), default=0)
    weights = [sum(tensor.nbytes for tensor in each.spec.load().parameters()) for each in made]
    # its gradient, two moments and the best epoch are as large as the weights
    return samples + answers + 5 * max(weights, default=0)


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _static_search(recipe: Recipe, estimate: Estimate) -> StaticSearchPlan:
    choices = recipe.choices
    steps = estimate.steps_of_search(choices)
    return {
        "variants": len(choices),
        "choices": [{"pruning": choice.names[0], "quantization": choice.names[1]} for choice in choices],
        "steps": _rounded(steps),
        "seconds_at_most": round(sum(steps.values()), 1),
    }
