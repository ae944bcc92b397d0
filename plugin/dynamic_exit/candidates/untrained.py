"""Finds candidates without trained weights: from what their source tells, or from what differs between two builds."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..graph import Classifier
from ..passes import ModelSource
from ..sources.models.base import find_builder
from ..sources.models.weights import quote_names

# two builds of one model differ at most by rounding, in units of its largest number
_ROUNDING = 1e-4


def why_untrained(
    source: ModelSource, candidate: Classifier, inputs: Sequence[Tensor], rebuild: Callable[[], Classifier]
) -> str | None:
    """Say what of a candidate has no trained weights.

    Some sources tell which weights no file gave. User code need not: a model without a file is built again
    under another seed, and what then differs was drawn at random, unless no answer depends on it. Weights that the code
    draws under a seed of its own, or that are all the same, cannot be found this way; their answers are compared with
    chance, as all are.

    Args:
        source: Where it comes from.
        candidate: In evaluation mode.
        inputs: Two samples or more, as it takes them.
        rebuild: Builds it under another seed.

    Returns:
        The reason, in a few words; None if nothing is known to be random.

    Raises:
        DynamicExitError: What `rebuild` raises.
    """
    names = [f"model.{name}" for name in candidate.untrained]
    if not find_builder(source).knows_untrained and not source.weights:
        names = _random(candidate, inputs, rebuild())
    if not names:
        return None
    # a parameter that is one number throughout, as in a fresh normalization, has learned nothing either
    if all(name in names or tensor.unique().numel() == 1 for name, tensor in candidate.named_parameters()):
        return "it is not trained, all of its weights are random"
    quoted = quote_names([name.removeprefix("model.") for name in names])
    return f"it is not trained, {quoted} {'is' if len(names) == 1 else 'are'} random"


def _random(candidate: Classifier, inputs: Sequence[Tensor], other: Classifier) -> list[str]:
    tensors, others = _tensors(candidate), _tensors(other)
    differ = [name for name, tensor in tensors.items() if not _is_same(tensor, others.get(name))]
    with torch.no_grad():
        same = not differ or _is_same(candidate(*inputs), other(*inputs))
    return [] if same else differ


def _tensors(model: Classifier) -> dict[str, Tensor]:
    return dict(itertools.chain(model.named_parameters(), model.named_buffers()))


def _is_same(one: Tensor, other: Tensor | None) -> bool:
    if other is None or one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    return not one.numel() or bool(((one - other).abs() <= _ROUNDING * one.abs().max()).all())
