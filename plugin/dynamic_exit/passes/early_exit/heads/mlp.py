"""Linear layers on pooled features, as in DyCE (arXiv 2403.01695)."""

from pydantic import Field
from torch import Tensor, nn

from ...stanza import Stanza
from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GlobalPool, Standardize


class MlpOptions(Stanza):
    """What a recipe may set of an `mlp`."""

    layers: int = Field(2, ge=1, description="linear layers, the last included")
    width: int | None = Field(None, ge=1, description="of the layers between; default: the number of pooled features")


@register_head("mlp")
class MlpHead(ExitHead):
    """Linear layers with ReLU between on standardised pooled features.

    Args:
        hidden: What it is put on.
        classes: Number of logits C.
        layers: Linear layers, the last included.
        width: Of the layers between; None takes the number of pooled features.
    """

    Options = MlpOptions

    def __init__(self, hidden: FeatureLayout, classes: int, layers: int = 2, width: int | None = None):
        super().__init__(GlobalPool(hidden))
        before = self.features.channels
        self.norm = Standardize(before)
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            after = width or self.features.channels
            parts += [nn.Linear(before, after), nn.ReLU()]
            before = after
        self.layers = nn.Sequential(*parts, nn.Linear(before, classes))

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, channels) to logits (N, C)."""
        return self.layers(self.norm(features))
