"""The output of a dynamic model."""

from typing import NamedTuple

from torch import Tensor


class DynamicOutput(NamedTuple):
    """The output of a dynamic model, in the order of the input rows.

    Attributes:
        logits: (N, C) floating: with ``fuse="none"`` the raw logits of the stage that answered, with ``"mean"`` the
            logarithm of the averaged probabilities.
        exit_index: (N,) int64: index in the chain of the stage that answered; ``len(chain)`` is the final stage.
        confidence: (N,) float32 in 0..1: how sure the evidence is that it answered with.
    """

    logits: Tensor
    exit_index: Tensor
    confidence: Tensor
