"""What a recipe would run: shapes, costs, and about how long each step would take. Nothing is trained or kept."""

from dataclasses import replace
from typing import Any

from ..core.cache import Cache
from ..core.process_state import preserve_process_state
from ..cost import count_macs
from ..graph.backbone import Backbone
from ..passes import PruningStanza
from ..passes.early_exit.heads import build_head
from ..pipeline.backbone import cut_backbone
from ..pipeline.candidates.pool import CandidatePool
from ..pipeline.inputs import load_run_inputs
from ..pipeline.static_passes import apply_static_passes
from ..recipe.recipe import Recipe
from ..recipe.static_passes import StaticPasses
from ..sources.run_inputs import RunInputs
from .probes import Estimate


@preserve_process_state()
def plan(recipe: Recipe) -> dict[str, Any]:
    """Find out what a recipe would run.

    Pruning is done without training, so that shapes and costs are those of the pruned backbone; passes of other
    distributions are not run. Times are estimates from short probes on this machine.

    Args:
        recipe: The recipe.

    Returns:
        ``splits`` (samples), ``static`` (passes in order), ``quantization`` (what would be measured or shipped),
        ``backbone`` (multiply-adds, parameters, cuts), ``positions`` (cuts in use with shape, share and heads),
        ``candidates``, ``left_out``, ``steps`` (name and seconds), ``seconds``, and ``static_search`` (its variants,
        seconds at most) or None.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    cache = Cache(None)
    run_inputs = load_run_inputs(recipe)
    run_inputs.log_notes()
    given = run_inputs
    pruned = [name for name, stanza in recipe.static_passes.items() if isinstance(stanza, PruningStanza)]
    if pruned:
        run_inputs = replace(apply_static_passes(_untrained(run_inputs), cache), recipe=recipe)
    pool = CandidatePool.of(run_inputs, cache)
    exits = recipe.dynamic_exit.early_exit
    backbone = cut_backbone(run_inputs.backbone, run_inputs.example, exits)
    macs = count_macs(run_inputs.backbone, run_inputs.backbone.select(run_inputs.example))
    positions = _positions(run_inputs, backbone, macs) if exits else []
    estimate = Estimate(given, run_inputs, backbone, pool)
    steps = estimate.steps()
    return {
        "splits": {key: len(split) for key, split in run_inputs.splits.items()},
        "static": [{"pass": name, **stanza.model_dump(mode="json")} for name, stanza in recipe.static_passes.items()],
        "quantization": _quantization(recipe),
        "backbone": {
            "multiply_adds": macs,
            "given_multiply_adds": count_macs(given.backbone, given.backbone.select(given.example)),
            "parameters": sum(parameter.numel() for parameter in run_inputs.backbone.parameters()),
            "classes": run_inputs.classes,
            "inputs": {name: [*tensor.shape[1:]] for name, tensor in run_inputs.example.items()},
            "cuts_found": backbone.depth,
        },
        "positions": positions,
        "candidates": _candidates(run_inputs, pool, macs) if pool else [],
        "left_out": [{"stage": row.stage, "why": row.why} for row in pool.skipped] if pool else [],
        "steps": [{"step": name, "seconds": round(seconds, 1)} for name, seconds in steps.items()],
        "seconds": round(sum(steps.values()), 1),
        "static_search": _search(recipe, estimate) if recipe.choices else None,
    }


def _untrained(run_inputs: RunInputs) -> RunInputs:
    """Return the run inputs with a recipe that prunes in one step and trains nothing, and runs nothing else."""
    recipe: StaticPasses = run_inputs.recipe
    stanza = recipe.pruning
    untrained = stanza.model_copy(
        update={"steps": 1, "fine_tune": stanza.fine_tune.model_copy(update={"epochs": 0, "step_epochs": 0})}
    )
    alone = recipe.with_static(untrained, recipe.quantization)
    alone._order = ("pruning",)
    return replace(run_inputs, recipe=alone)


def _quantization(recipe: Recipe) -> list[str]:
    """What ships, or, of several, what is measured first."""
    algorithms = [*(recipe.quantization or {})]
    return ["none", *algorithms] if len(algorithms) != 1 else algorithms


def _positions(run_inputs: RunInputs, backbone: Backbone, macs: float) -> list[dict[str, Any]]:
    """Describe the cuts in use, and the heads that are tried there."""
    stanza, rows = run_inputs.recipe.dynamic_exit.early_exit, []
    for cut, following in zip(backbone.cuts, backbone.segments[1:], strict=True):
        hidden = following.example_inputs[following.input_names.index("hidden")]
        heads = []
        for entry in stanza.entries:
            head = build_head(entry, cut.shape, backbone.classes, cut=cut.name).eval()
            cost = count_macs(head, (hidden,))
            heads.append({"head": entry.name, "multiply_adds": cost, "share": cost / macs})
        shape = [*cut.shape]
        rows.append({"position": cut.name, "cut": cut.index, "shape": shape, "share": cut.share, "heads": heads})
    return rows


def _candidates(run_inputs: RunInputs, pool: CandidatePool, macs: float) -> list[dict[str, Any]]:
    """Describe the candidates that would be tried, from cheap to dear."""
    rows = []
    for known in pool.specs:
        size = run_inputs.candidates[known.name].preprocessing.size
        inputs = {name: [*run_inputs.example[name].shape[1:]] for name in known.input_names}
        if size:
            inputs = {name: [*shape[:-2], *size] for name, shape in inputs.items()}
        share = known.macs / macs
        rows.append({"stage": known.name, "multiply_adds": known.macs, "share": share, "inputs": inputs})
    return rows


def _search(recipe: Recipe, estimate: Estimate) -> dict[str, Any]:
    """What a search over static choices would come to, if nothing of it were skipped."""
    choices = recipe.choices
    steps = estimate.of_choices(choices)
    return {
        "variants": len(choices),
        "choices": [{"pruning": choice.names[0], "quantization": choice.names[1]} for choice in choices],
        "steps": [{"step": name, "seconds": round(seconds, 1)} for name, seconds in steps.items()],
        "seconds_at_most": round(sum(steps.values()), 1),
    }
