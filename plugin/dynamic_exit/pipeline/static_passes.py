"""Runs the static passes of a recipe before quantization, in the written order."""

import copy
import logging
from dataclasses import replace
from typing import Any

import torch

from ..chain.drop_checks import with_standard_error
from ..core import distributed
from ..core.batching import run_in_batches
from ..core.cache import Cache
from ..core.hashing import array_fingerprint, digest
from ..core.model_fingerprint import classifier_fingerprint, function_fingerprint, training_environment_fingerprint
from ..cost import count_macs
from ..errors import PassError
from ..graph import Classifier
from ..passes import PruningStanza, Samples, apply_static, registered_passes
from ..passes.pruning import pack_pruned, prune, unpack_pruned
from ..sources.models.logits import check_logits
from ..sources.run_inputs import RunInputs

logger = logging.getLogger(__name__)


def apply_static_passes(run_inputs: RunInputs, cache: Cache | None = None) -> RunInputs:
    """Run the static passes.

    Args:
        run_inputs: What the recipe names; it stays as it was.
        cache: Keeps a pruned and fine-tuned backbone for the next run with the same weights, stanza, samples and seed;
            None: nothing is kept.

    Returns:
        The run inputs with the smaller backbone.

    Raises:
        PassError: A pass failed, or what it made does not answer as a classifier of as many classes.
    """
    cache, given = Cache(None) if cache is None else cache, run_inputs.backbone
    for name, stanza in run_inputs.recipe.static_passes.items():
        run = _prune if isinstance(stanza, PruningStanza) else _run_external
        run_inputs = run(name, stanza, run_inputs, cache)
    return replace(run_inputs, given=given)


def static_pass_effect(run_inputs: RunInputs) -> dict[str, Any] | None:
    """Return what static passes did to the backbone, in float, on test samples.

    Args:
        run_inputs: What `apply_static_passes` gave.

    Returns:
        ``passes``, and of the backbone ``given`` and ``made`` the ``accuracy`` (None without labels) and the
        ``multiply_adds`` of a sample; None where no pass has run.
    """
    if run_inputs.given is None:
        return None
    models = {"given": run_inputs.given, "made": run_inputs.backbone}
    looked = {key: _looked_at(model, run_inputs) for key, model in models.items()}
    return {"passes": list(run_inputs.recipe.static_passes), **looked}


def _looked_at(model: Classifier, run_inputs: RunInputs) -> dict[str, float | None]:
    test = run_inputs.splits["test"]
    answers = run_in_batches(model, model.select(test.tensors)).argmax(1).numpy()
    known = test.labels >= 0
    right = (answers == test.labels)[known]
    found = {
        "accuracy": float(right.mean()) if known.any() else None,
        "multiply_adds": count_macs(model, model.select(run_inputs.example)),
    }
    return with_standard_error(found, int(known.sum()))


def _prune(name: str, stanza: PruningStanza, run_inputs: RunInputs, cache: Cache) -> RunInputs:
    before, train, seed = run_inputs.backbone, run_inputs.splits["train"], run_inputs.recipe.seed
    inputs, example = before.select(train.tensors), before.select(run_inputs.example)
    key = digest(
        "pruned",
        training_environment_fingerprint(),
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
    return replace(run_inputs, backbone=pruned.eval())


def _run_external(name: str, stanza, run_inputs: RunInputs, cache: Cache) -> RunInputs:
    train, before = run_inputs.splits["train"], run_inputs.backbone
    samples = Samples(tuple(before.select(train.tensors)), torch.from_numpy(train.labels))

    def make() -> Classifier:
        made = apply_static(registered_passes()[name], before, stanza, samples, run_inputs.recipe.seed)
        return made if isinstance(made, Classifier) else Classifier(made, input_names=before.input_names)

    made = distributed.run_on_all(make)
    classes = check_logits(f"what pass '{name}' made", made, made.select(run_inputs.example)).shape[1]
    if classes != run_inputs.classes:
        raise PassError(f"pass '{name}' made a model of {classes} classes from one of {run_inputs.classes}; mend it")
    logger.info(f"{name}: done")
    return replace(run_inputs, backbone=made)
