"""Runs the static passes of a recipe before quantization, in the written order."""

from collections.abc import Callable
from dataclasses import replace

import torch

from ..errors import PassError
from ..graph import Classifier
from ..passes import PruningStanza, Samples, apply_static, registered_passes
from ..passes.pruning import prune
from .load import Ingredients
from .models import answer_of

Say = Callable[[str], None]


def shrink(ingredients: Ingredients, say: Say) -> Ingredients:
    """Run the static passes.

    Args:
        ingredients: What the recipe names; it stays as it was.
        say: Takes one line for each pass.

    Returns:
        The ingredients with the smaller backbone.

    Raises:
        PassError: A pass failed, or what it made does not answer as a classifier of as many classes.
    """
    for name, stanza in ingredients.recipe.static_passes.items():
        run = _prune if isinstance(stanza, PruningStanza) else _run_external
        ingredients = run(name, stanza, ingredients, say)
    return ingredients


def _prune(name: str, stanza: PruningStanza, ingredients: Ingredients, say: Say) -> Ingredients:
    train = ingredients.splits["train"]
    if len(train.inputs) > 1:
        raise PassError(f"pruning takes models of one input; the data hold {', '.join(train.inputs)}; leave it out")
    samples = (*train.tensors.values(), torch.from_numpy(train.labels))
    example = tuple(ingredients.example.values())
    pruned = prune(ingredients.backbone, example, stanza, samples, ingredients.recipe.seed)
    say(f"pruned: {stanza.ratio:.0%} of the channels")
    return replace(ingredients, backbone=pruned)


def _run_external(name: str, stanza, ingredients: Ingredients, say: Say) -> Ingredients:
    train, before = ingredients.splits["train"], ingredients.backbone
    samples = Samples(tuple(before.select(train.tensors)), torch.from_numpy(train.labels))
    made = apply_static(registered_passes()[name], before, stanza, samples, ingredients.recipe.seed)
    if not isinstance(made, Classifier):
        made = Classifier(made, takes=before.takes)
    classes = answer_of(f"what pass '{name}' made", made, made.select(ingredients.example)).shape[1]
    if classes != ingredients.classes:
        raise PassError(f"pass '{name}' made a model of {classes} classes from one of {ingredients.classes}; mend it")
    say(f"{name}: done")
    return replace(ingredients, backbone=made)
