"""The smallest head: global pooling and one linear layer."""

from torch import Tensor, nn

from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GlobalPool, Standardize


@register_head("linear")
class LinearHead(ExitHead):
    """One linear layer on standardized, globally pooled features.

    Args:
        layout: Of the hidden state.
        classes: Number of logits C.
    """

    def __init__(self, layout: FeatureLayout, classes: int):
        pool = GlobalPool(layout)
        super().__init__(pool)
        self.norm = Standardize(pool.channels)
        self.layer = nn.Linear(pool.channels, classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, channels) to logits (N, C)."""
        return self.layer(self.norm(features))
