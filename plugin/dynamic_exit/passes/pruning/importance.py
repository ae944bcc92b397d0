"""Measures of the importance of channels: torch-pruning's, by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...core.memory_pages import release_pages
from ...errors import PassError
from ..augment import make_augment
from ..training import LabeledInputs, as_model_input
from .config import ImportanceName

if TYPE_CHECKING:  # importing it brings timm, torchvision and torch's compiler, and takes seconds
    from torch_pruning.pruner.importance import Importance

# samples on which gradients of the loss are computed
_GRADIENT_SAMPLES = 1024


@dataclass(frozen=True)
class Measure:
    """One of torch-pruning's measures.

    Attributes:
        class_name: Its class in ``torch_pruning.pruner.importance``.
        options: Arguments of that class.
        needs_gradients: Whether parameters must have gradients of the loss.
    """

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_gradients: bool = False


#: All measures that a recipe may name.
MEASURES: Mapping[ImportanceName, Measure] = {
    "magnitude_l2": Measure("GroupMagnitudeImportance", {"p": 2}),
    "magnitude_l1": Measure("GroupMagnitudeImportance", {"p": 1}),
    "bn_scale": Measure("BNScaleImportance"),
    "lamp": Measure("LAMPImportance"),
    "fpgm": Measure("FPGMImportance"),
    "taylor": Measure("GroupTaylorImportance", needs_gradients=True),
    "random": Measure("RandomImportance"),
}


def make_importance(name: ImportanceName) -> Importance:
    """Return a measure: from a group to one score per index (lower scores are removed first), or None if unknown."""
    measure = MEASURES[name]
    measures = importlib.import_module("torch_pruning.pruner.importance")
    return getattr(measures, measure.class_name)(**measure.options)


def needs_gradients(name: ImportanceName) -> bool:
    """Whether a measure needs gradients of the loss."""
    return MEASURES[name].needs_gradients


def accumulate_gradients(model: nn.Module, samples: LabeledInputs, augment: str, batch_size: int, seed: int) -> None:
    """Leave the gradients of the cross-entropy in the parameters, summed over some samples.

    Args:
        model: Classifier in evaluation mode whose parameters require gradients.
        samples: To draw from.
        augment: As a recipe names it: without it, memorized samples would have no gradients.
        batch_size: Samples per step.
        seed: Decides which samples, and their augmentation.

    Raises:
        PassError: The gradients are NaN or infinite.
    """
    count = len(samples.truth)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(count, generator=generator)[:_GRADIENT_SAMPLES].sort().values
    views = make_augment(augment, count, seed)
    model.zero_grad()
    for part in rows.split(batch_size):
        inputs = [each[part] if views is None else views(each[part], part, 0) for each in samples.inputs]
        logits: Tensor = model(*map(as_model_input, inputs))
        nn.functional.cross_entropy(logits, samples.truth[part], reduction="sum").backward()
        release_pages()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        elif not torch.isfinite(parameter.grad).all():
            raise PassError(f"the gradient of '{name}' is NaN or infinite on the training split; check the model")
