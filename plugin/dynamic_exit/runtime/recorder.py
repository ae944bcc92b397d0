"""Makes records: runs every stage on every sample, once, with the numerics that ship."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..errors import ModelError
from ..records import Records
from .batches import batches
from .model import DynamicExitModel

#: Classes kept per sample; with `fuse: mean` classes beyond these count as 0.
KEPT_CLASSES = 20


def stage_probabilities(
    model: DynamicExitModel, inputs: Sequence[np.ndarray], batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Run every stage of a model on every sample.

    Args:
        model: Its modules may be torch or onnxruntime.
        inputs: The model's inputs, each (N, ...).
        batch_size: Samples at a time.

    Returns:
        Probabilities float32 (N, C) by stage, the final last.

    Raises:
        ModelError: A stage gives NaN.
    """
    answers: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for batch in batches(inputs, batch_size):
            for stage, logits in model.all_stage_logits(*map(torch.from_numpy, batch)).items():
                answers.setdefault(stage, []).append(torch.softmax(logits.float(), dim=1).numpy())
    probabilities = {stage: np.concatenate(parts) for stage, parts in answers.items()}
    for stage, values in probabilities.items():
        wrong = np.flatnonzero(np.isnan(values).any(axis=1))
        if len(wrong):
            raise ModelError(f"stage '{stage}' gives NaN, first for sample {wrong[0]}; check its weights and inputs")
    return probabilities


def make_records(
    model: DynamicExitModel,
    inputs: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    own_cost: Mapping[str, float],
    prefix_cost: Mapping[str, float],
    positions: Mapping[str, int],
    cost_unit: str,
    batch_size: int = 64,
) -> Records:
    """Make the records of a model.

    Args:
        model: Its modules may be torch or onnxruntime.
        inputs: The model's inputs, each (N, ...).
        labels: int64 (N,), -1 where unknown.
        own_cost: By stage, the final included.
        prefix_cost: By stage, the final included.
        positions: By exit and the final; savers stand at -1.
        cost_unit: ``macs`` or ``seconds``.
        batch_size: Samples at a time.

    Returns:
        Records with the stages of the model's chain and the final.

    Raises:
        ModelError: A stage gives NaN.
    """
    probabilities = stage_probabilities(model, inputs, batch_size)
    stages = tuple(probabilities)
    kinds = ["final" if s == stages[-1] else "exit" if s in positions else "saver" for s in stages]
    classes = probabilities[stages[-1]].shape[1]
    return Records.from_probabilities(
        labels=labels,
        stages=stages,
        kinds=kinds,
        positions=[positions.get(stage, -1) for stage in stages],
        probabilities=[probabilities[stage] for stage in stages],
        own_cost=[own_cost[stage] for stage in stages],
        prefix_cost=[prefix_cost[stage] for stage in stages],
        cost_unit=cost_unit,
        k=min(classes, KEPT_CLASSES),
    )
