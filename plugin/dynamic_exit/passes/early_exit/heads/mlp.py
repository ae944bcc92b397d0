"""A multilayer perceptron on pooled features, as in DyCE (arXiv 2403.01695)."""

from pydantic import Field
from torch import Tensor, nn

from ...stanza import Stanza
from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GlobalPool, Standardize


class MlpOptions(Stanza):
    """Options of the head `mlp` in a recipe."""

    layers: int = Field(2, ge=1, description="linear layers, the last included")
    width: int | None = Field(None, ge=1, description="of the hidden layers; default: the number of pooled features")


@register_head("mlp")
class MlpHead(ExitHead):
    """Linear layers with ReLU in between, on standardized, globally pooled features.

    Args:
        layout: Of the hidden state.
        classes: Number of logits C.
        layers: Linear layers, the last included.
        width: Of the hidden layers; None means the number of pooled features.
    """

    Options = MlpOptions

    def __init__(self, layout: FeatureLayout, classes: int, layers: int = 2, width: int | None = None):
        pool = GlobalPool(layout)
        super().__init__(pool)
        self.norm = Standardize(pool.channels)
        widths = [pool.channels] + [width or pool.channels] * (layers - 1)
        parts: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            parts += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*parts, nn.Linear(widths[-1], classes))

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, channels) to logits (N, C)."""
        return self.layers(self.norm(features))
