"""The least that can answer: global pooling and one linear layer."""

from torch import Tensor, nn

from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GlobalPool, Standardize


@register_head("linear")
class LinearHead(ExitHead):
    """One linear layer on standardised pooled features.

    Args:
        hidden: What it is put on.
        classes: Number of logits C.
    """

    def __init__(self, hidden: FeatureLayout, classes: int):
        super().__init__(GlobalPool(hidden))
        self.norm = Standardize(self.features.channels)
        self.layer = nn.Linear(self.features.channels, classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, channels) to logits (N, C)."""
        return self.layer(self.norm(features))
