"""Checks on what a classifier answers."""

import torch
from torch import Tensor

from ...errors import ModelError, first_line
from ...graph import Classifier, answer_without_sigmoid


def check_logits(name: str, classifier: Classifier, example: tuple[Tensor, ...]) -> Tensor:
    """Run a classifier on an example and check its logits.

    Args:
        name: How error messages call the classifier.
        classifier: In evaluation mode.
        example: Inputs, each (N, ...).

    Returns:
        The logits (N, C), all finite.

    Raises:
        ModelError: It refuses the example, its logits are not finite or not (N, C), or it ends in a sigmoid.
    """
    try:
        logits = answer_without_sigmoid(classifier, example, name)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        shapes = " and ".join(str(list(tensor.shape)) for tensor in example)
        hint = "set `data.text.max_length`" if classifier.input_names else "set its `preprocessing`"
        raise ModelError(f"{name} refuses inputs of shape {shapes}: {first_line(error)}; {hint}") from error
    if logits.dim() != 2:
        raise ModelError(f"{name} must give logits (N, C); got the shape {list(logits.shape)}")
    if not torch.isfinite(logits).all():
        raise ModelError(f"{name} gives NaN or infinite logits; check its weights and preprocessing")
    return logits
