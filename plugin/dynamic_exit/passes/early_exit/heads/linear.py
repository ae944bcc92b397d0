"""The least that can answer: global pooling and one linear layer."""

from torch import Tensor, nn

from .base import ExitHead, register_head
from .hidden import Hidden
from .pooling import Pooled, Standardise


@register_head("linear")
class LinearHead(ExitHead):
    """One linear layer on standardised pooled features.

    Args:
        hidden: What it is put on.
        classes: Number of logits C.
    """

    def __init__(self, hidden: Hidden, classes: int):
        super().__init__(Pooled(hidden))
        self.norm = Standardise(self.features.channels)
        self.layer = nn.Linear(self.features.channels, classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, channels) to logits (N, C)."""
        return self.layer(self.norm(features))
