"""What a calibration function fed a model, as the inputs of a run; nothing has a label."""

import warnings
from functools import partial

import numpy as np
from torch import nn

from ...data.run_inputs import RunInputs
from ...data.split import Split
from ...graph import Classifier, answer_without_sigmoid, with_two_logits
from ...recipe.recipe import DynamicExit, Recipe
from ...sources.models.candidates import expand_candidates
from .calibration import CalibrationCalls


def load_calibration(name: str, model: nn.Module, calls: CalibrationCalls, stanza: DynamicExit) -> RunInputs:
    """Return the run inputs of a model in memory.

    Args:
        name: Name of the pass, for messages.
        model: Model of one input, in evaluation mode.
        calls: Calibration calls. With exits, every second sample trains them and the others serve all else.
        stanza: Savers, exits, and their goal.

    Raises:
        DynamicExitError: One sentence on what cannot be used.
    """
    inputs, keyword = calls.only_input(name)
    classifier = Classifier(model, keywords=[keyword] if keyword else None)
    classifier = with_two_logits(classifier, (inputs[:2],), "the model", partial(warnings.warn, stacklevel=5))
    # this call also makes Neural Compressor's weight-only layers unpack, which they cannot do in a graph
    classes = answer_without_sigmoid(classifier, (inputs[:2],), "the model").shape[1]
    candidates = expand_candidates(stanza.tiny_saver.models) if stanza.tiny_saver else []
    (only,) = classifier.name_inputs(1)
    shares = {"train": inputs[::2], "calibration": inputs[1::2]} if stanza.early_exit else {"calibration": inputs}
    return RunInputs(
        recipe=Recipe.model_validate({**memory_stanzas(model), "dynamic_exit": stanza}, context={"base": "/"}),
        backbone=classifier,
        splits={key: Split(key, {only: share.numpy()}, np.full(len(share), -1)) for key, share in shares.items()},
        candidates={source.stage_name: source for source in candidates},
        example={only: inputs[:2]},
        by_name=False,
        classes=classes,
        labels=[],
    )


def memory_stanzas(model: nn.Module) -> dict[str, object]:
    """Return the stanzas of a recipe whose model and samples are given in memory, and whose result stays there."""
    splits = {key: key for key in ("train", "calibration", "test")}
    return {
        "model": {"source": "python", "name": type(model).__name__},
        "data": {"source": "python", "path": "memory", "splits": splits},
        "export": {"directory": "memory"},
    }
