"""What a recipe would run: shapes, costs, and about how long each step would take. Nothing is trained or kept."""

from dataclasses import replace
from typing import Any

from ..core.cache import Cache
from ..core.process_state import undisturbed
from ..cost import count_macs
from ..graph.backbone import Backbone
from ..passes import PruningStanza
from ..passes.early_exit.heads import build_head
from ..pipeline.backbone import cut_backbone
from ..pipeline.candidates.pool import Pool
from ..pipeline.inputs import load
from ..pipeline.static_passes import shrink
from ..recipe.recipe import Recipe
from ..recipe.static_passes import StaticPasses
from ..sources.run_inputs import Ingredients
from .probes import Estimate


@undisturbed()
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
    ingredients = load(recipe)
    ingredients.log_notes()
    given = ingredients
    pruned = [name for name, stanza in recipe.static_passes.items() if isinstance(stanza, PruningStanza)]
    if pruned:
        ingredients = replace(shrink(_untrained(ingredients), cache), recipe=recipe)
    pool = Pool(ingredients, cache) if recipe.dynamic_exit.tiny_saver else None
    exits = recipe.dynamic_exit.early_exit
    backbone = cut_backbone(ingredients.backbone, ingredients.example, exits)
    macs = count_macs(ingredients.backbone, ingredients.backbone.select(ingredients.example))
    positions = _positions(ingredients, backbone, macs) if exits else []
    estimate = Estimate(given, ingredients, backbone, pool)
    steps = estimate.steps()
    return {
        "splits": {key: len(split) for key, split in ingredients.splits.items()},
        "static": [{"pass": name, **stanza.model_dump(mode="json")} for name, stanza in recipe.static_passes.items()],
        "quantization": _quantization(recipe),
        "backbone": {
            "multiply_adds": macs,
            "given_multiply_adds": count_macs(given.backbone, given.backbone.select(given.example)),
            "parameters": sum(parameter.numel() for parameter in ingredients.backbone.parameters()),
            "classes": ingredients.classes,
            "inputs": {name: [*tensor.shape[1:]] for name, tensor in ingredients.example.items()},
            "cuts_found": backbone.depth,
        },
        "positions": positions,
        "candidates": _candidates(ingredients, pool, macs) if pool else [],
        "left_out": [{"stage": row.stage, "why": row.why} for row in pool.skipped] if pool else [],
        "steps": [{"step": name, "seconds": round(seconds, 1)} for name, seconds in steps.items()],
        "seconds": round(sum(steps.values()), 1),
        "static_search": _search(recipe, estimate) if recipe.choices else None,
    }


def _untrained(ingredients: Ingredients) -> Ingredients:
    """Return the ingredients with a recipe that prunes in one step and trains nothing, and runs nothing else."""
    recipe: StaticPasses = ingredients.recipe
    stanza = recipe.pruning
    untrained = stanza.model_copy(
        update={"steps": 1, "fine_tune": stanza.fine_tune.model_copy(update={"epochs": 0, "step_epochs": 0})}
    )
    alone = recipe.with_static(untrained, recipe.quantization)
    alone._order = ("pruning",)
    return replace(ingredients, recipe=alone)


def _quantization(recipe: Recipe) -> list[str]:
    """What ships, or, of several, what is measured first."""
    algorithms = [*(recipe.quantization or {})]
    return ["none", *algorithms] if len(algorithms) != 1 else algorithms


def _positions(ingredients: Ingredients, backbone: Backbone, macs: float) -> list[dict[str, Any]]:
    """Describe the cuts in use, and the heads that are tried there."""
    stanza, rows = ingredients.recipe.dynamic_exit.early_exit, []
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


def _candidates(ingredients: Ingredients, pool: Pool, macs: float) -> list[dict[str, Any]]:
    """Describe the candidates that would be tried, from cheap to dear."""
    rows = []
    for known in pool.known:
        size = ingredients.candidates[known.name].preprocessing.size
        inputs = {name: [*ingredients.example[name].shape[1:]] for name in known.input_names}
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
