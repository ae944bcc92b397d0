"""Runs the static passes of a recipe before quantization, in the written order."""

import copy
import logging
from dataclasses import replace
from typing import Any

import torch

from ..core import distributed
from ..core.batching import run_in_batches
from ..core.cache import Cache
from ..core.hashing import array_fingerprint, digest
from ..core.model_fingerprint import classifier_fingerprint, function_fingerprint, training_surroundings
from ..cost import count_macs
from ..errors import PassError
from ..graph import Classifier
from ..passes import PruningStanza, Samples, apply_static, registered_passes
from ..passes.pruning import pack_pruned, prune, unpack_pruned
from ..search.judgement import with_error
from ..sources.models.loading import answer_of
from ..sources.run_inputs import Ingredients

logger = logging.getLogger(__name__)


def shrink(ingredients: Ingredients, cache: Cache | None = None) -> Ingredients:
    """Run the static passes.

    Args:
        ingredients: What the recipe names; it stays as it was.
        cache: Keeps a pruned and fine-tuned backbone for the next run with the same weights, stanza, samples and seed;
            None: nothing is kept.

    Returns:
        The ingredients with the smaller backbone.

    Raises:
        PassError: A pass failed, or what it made does not answer as a classifier of as many classes.
    """
    cache, given = Cache(None) if cache is None else cache, ingredients.backbone
    for name, stanza in ingredients.recipe.static_passes.items():
        run = _prune if isinstance(stanza, PruningStanza) else _run_external
        ingredients = run(name, stanza, ingredients, cache)
    return replace(ingredients, given=given)


def shrinkage(ingredients: Ingredients) -> dict[str, Any] | None:
    """Return what static passes did to the backbone, in float, on test samples.

    Args:
        ingredients: What `shrink` gave.

    Returns:
        ``passes``, and of the backbone ``given`` and ``made`` the ``accuracy`` (None without labels) and the
        ``multiply_adds`` of a sample; None where no pass has run.
    """
    if ingredients.given is None:
        return None
    models = {"given": ingredients.given, "made": ingredients.backbone}
    looked = {key: _looked_at(model, ingredients) for key, model in models.items()}
    return {"passes": list(ingredients.recipe.static_passes), **looked}


def _looked_at(model: Classifier, ingredients: Ingredients) -> dict[str, float | None]:
    test = ingredients.splits["test"]
    answers = run_in_batches(model, model.select(test.tensors)).argmax(1).numpy()
    known = test.labels >= 0
    right = (answers == test.labels)[known]
    found = {
        "accuracy": float(right.mean()) if known.any() else None,
        "multiply_adds": count_macs(model, model.select(ingredients.example)),
    }
    return with_error(found, int(known.sum()))


def _prune(name: str, stanza: PruningStanza, ingredients: Ingredients, cache: Cache) -> Ingredients:
    before, train, seed = ingredients.backbone, ingredients.splits["train"], ingredients.recipe.seed
    inputs, example = before.select(train.tensors), before.select(ingredients.example)
    key = digest(
        "pruned",
        training_surroundings(),
        classifier_fingerprint(before, example),
        stanza.model_dump_json(),
        function_fingerprint(stanza.fine_tune.augment),
        [array_fingerprint(each.numpy()) for each in (*inputs, *example)],
        array_fingerprint(train.labels),
        str(seed),
    )

    def make() -> dict[str, bytes]:
        made = prune(before, example, stanza, (*inputs, torch.from_numpy(train.labels)), seed)
        return pack_pruned(made.model, before.model)

    files = cache.files(key, make)
    # every run goes on from what was kept, the first one too: the two cannot differ
    pruned = copy.deepcopy(before)
    unpack_pruned(pruned.model, files)
    share = count_macs(pruned, example) / count_macs(before, example)
    logger.info(f"pruned: {share:.1%} of the multiply-adds remain")
    return replace(ingredients, backbone=pruned.eval())


def _run_external(name: str, stanza, ingredients: Ingredients, cache: Cache) -> Ingredients:
    train, before = ingredients.splits["train"], ingredients.backbone
    samples = Samples(tuple(before.select(train.tensors)), torch.from_numpy(train.labels))

    def make() -> Classifier:
        made = apply_static(registered_passes()[name], before, stanza, samples, ingredients.recipe.seed)
        return made if isinstance(made, Classifier) else Classifier(made, input_names=before.input_names)

    made = distributed.together(make)
    classes = answer_of(f"what pass '{name}' made", made, made.select(ingredients.example)).shape[1]
    if classes != ingredients.classes:
        raise PassError(f"pass '{name}' made a model of {classes} classes from one of {ingredients.classes}; mend it")
    logger.info(f"{name}: done")
    return replace(ingredients, backbone=made)
