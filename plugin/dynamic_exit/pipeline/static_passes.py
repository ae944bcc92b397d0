"""Runs the static passes of a recipe before quantization, in the written order."""

import copy
import logging
from dataclasses import replace
from typing import cast

import torch

from ..core import distributed
from ..core.batching import run_in_batches
from ..core.cache import Cache
from ..core.hashing import array_fingerprint, digest
from ..core.model_fingerprint import classifier_fingerprint, function_fingerprint, training_environment_fingerprint
from ..cost import count_macs
from ..data.run_inputs import RunInputs
from ..errors import PassError
from ..graph import Classifier, check_logits
from ..guarantee.drop_checks import standard_error
from ..passes import PruningStanza, Samples, Stanza, apply_static, registered_passes
from ..passes.pruning import pack_pruned, prune, unpack_pruned
from ..report.metrics import BackboneFigures, StaticPassEffect

logger = logging.getLogger(__name__)


def apply_static_passes(run_inputs: RunInputs, cache: Cache | None = None) -> RunInputs:
    """Run the static passes.

    Args:
        run_inputs: What the recipe names; it stays as it was.
        cache: Keeps a pruned and fine-tuned backbone for the next run with the same weights, stanza, samples and seed;
            None: nothing is kept.

    Returns:
        The run inputs with the smaller backbone, and the one that it was made of; the same object if there is no pass.

    Raises:
        PassError: A pass failed, or its result is no classifier of as many classes.
    """
    passes, cache, original = run_inputs.recipe.static_passes, cache or Cache(None), run_inputs.backbone
    for name, stanza in passes.items():
        if isinstance(stanza, PruningStanza):
            backbone = _prune(stanza, run_inputs, cache)
        else:
            backbone = _run_external(name, stanza, run_inputs)
        run_inputs = replace(run_inputs, backbone=backbone)
    return replace(run_inputs, original_backbone=original) if passes else run_inputs


def static_pass_effect(run_inputs: RunInputs) -> StaticPassEffect | None:
    """Return what static passes did to the backbone, in float, on test samples; None if none has run.

    Args:
        run_inputs: What `apply_static_passes` returned.
    """
    if run_inputs.original_backbone is None:
        return None
    return StaticPassEffect(
        passes=list(run_inputs.recipe.static_passes),
        given=_backbone_figures(run_inputs.original_backbone, run_inputs),
        made=_backbone_figures(run_inputs.backbone, run_inputs),
    )


def _backbone_figures(model: Classifier, run_inputs: RunInputs) -> BackboneFigures:
    test = run_inputs.splits["test"]
    answers = run_in_batches(model, model.select(test.tensors)).argmax(1).numpy()
    known = test.labels >= 0
    accuracy = float((answers == test.labels)[known].mean()) if known.any() else None
    return BackboneFigures(
        accuracy=accuracy,
        multiply_adds=count_macs(model, model.select(run_inputs.example)),
        accuracy_standard_error=None if accuracy is None else standard_error(accuracy, int(known.sum())),
    )


def _prune(stanza: PruningStanza, run_inputs: RunInputs, cache: Cache) -> Classifier:
    """Prune and fine-tune the backbone, or find the result in the cache."""
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
        return pack_pruned(cast(Classifier, made).model, before.model)

    files = cache.files(key, make)
    # every run goes on from the files, the first one too, so that two runs cannot differ
    pruned = copy.deepcopy(before)
    unpack_pruned(pruned.model, files)
    share = count_macs(pruned, example) / count_macs(before, example)
    logger.info(f"pruned: {share:.1%} of the multiply-adds remain")
    return pruned.eval()


def _run_external(name: str, stanza: Stanza, run_inputs: RunInputs) -> Classifier:
    """Run a pass of another distribution."""
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
    return made
