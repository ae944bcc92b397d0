"""How important channels are: torch-pruning's measures by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ...errors import PassError
from ..augment import make_augment
from ..training import as_number

if TYPE_CHECKING:
    from torch_pruning.pruner import importance as measures

ImportanceName = Literal["magnitude_l2", "magnitude_l1", "bn_scale", "lamp", "fpgm", "taylor", "random"]
#: What the field of the stanza says of it.
MEASURES = (
    "how channels are ranked: by the l2 or l1 norm of all that depends on them, scale of their batch norm, lamp, "
    "distance from the geometric median, first-order effect on the loss (needs samples), or at random"
)
# samples that the gradients of the loss are taken on
_SAMPLES = 1024


def make_importance(name: ImportanceName) -> measures.Importance:
    """Return one of torch-pruning's measures: from a group to a score of each of its indices, the smallest go first."""
    from torch_pruning.pruner import importance as measures

    if name.startswith("magnitude"):
        return measures.GroupMagnitudeImportance(p=1 if name == "magnitude_l1" else 2)
    kinds = {
        "bn_scale": measures.BNScaleImportance,
        "lamp": measures.LAMPImportance,
        "fpgm": measures.FPGMImportance,
        "taylor": measures.GroupTaylorImportance,
        "random": measures.RandomImportance,
    }
    return kinds[name]()


def needs_gradients(name: ImportanceName) -> bool:
    """Whether a measure wants gradients of the loss."""
    return name == "taylor"


def accumulate_gradients(
    model: nn.Module, inputs: Sequence[Tensor], truth: Tensor, augment: str, batch_size: int, seed: int
) -> None:
    """Leave the gradients of the cross-entropy in the parameters, summed over some samples.

    Args:
        model: Classifier in evaluation mode, whose parameters take gradients.
        inputs: What it takes, each (N, ...).
        truth: int64 (N,), the class that counts as right.
        augment: As a recipe names it: samples that are known by heart have no gradients as they are.
        batch_size: Samples at a time.
        seed: Decides which samples, and their augmentation.

    Raises:
        PassError: The gradients are NaN or infinite.
    """
    rows = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))[:_SAMPLES].sort().values
    views = make_augment(augment, len(truth), seed)
    model.zero_grad()
    for part in rows.split(batch_size):
        batch = [as_number(each[part] if views is None else views(each[part], part, 0)) for each in inputs]
        nn.functional.cross_entropy(model(*batch), truth[part], reduction="sum").backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        elif not torch.isfinite(parameter.grad).all():
            raise PassError(f"the gradient of '{name}' is NaN or infinite on the training split; check the model")
