"""ROCKET and MiniRocket as classifiers of plain torch modules."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .features import GroupShape, SeriesFeatures
from .minirocket_features import MiniRocketFeatures
from .ridge import Ridge, Scale
from .rocket_features import RocketFeatures

Kind = Literal["rocket", "minirocket"]
KINDS: dict[Kind, type[SeriesFeatures]] = {"rocket": RocketFeatures, "minirocket": MiniRocketFeatures}


class RocketClassifier(nn.Module):
    """Features of series, standardized, and a linear layer: series (N, channels, length) -> logits (N, classes).

    Softmax of the logits gives probabilities. Nothing is trained by gradients: everything is a buffer.

    Args:
        features: Of the kernels in use.
        scale: Of these features.
        weight: float32 (classes, features).
        bias: float32 (classes,).
    """

    mean: Tensor
    norm: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, features: SeriesFeatures, scale: Scale, weight: Tensor, bias: Tensor):
        super().__init__()
        self.features = features
        self.register_buffer("mean", scale.mean)
        self.register_buffer("norm", scale.norm)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @classmethod
    def from_ridge(cls, features: SeriesFeatures, scale: Scale, ridge: Ridge, factor: float) -> "RocketClassifier":
        """Return the classifier whose logits are `factor` times the scores of a ridge regression."""
        return cls(features, scale, factor * ridge.weight.T.contiguous(), factor * ridge.bias).eval()

    @classmethod
    def of_shapes(cls, kind: Kind, shapes: Sequence[GroupShape], channels: int, classes: int) -> "RocketClassifier":
        """Return an unfitted classifier, into which the state of one with groups of the same shapes can be loaded."""
        features = KINDS[kind].of_shapes(shapes, channels)
        count = len(features.kernel_of_feature())
        scale = Scale(torch.zeros(count), torch.ones(count))
        return cls(features, scale, torch.zeros(classes, count), torch.zeros(classes)).eval()

    def forward(self, series: Tensor) -> Tensor:
        """Map series (N, channels, length) to logits (N, classes)."""
        scaled = (self.features(series.to(torch.float32)) - self.mean) / self.norm
        return functional.linear(scaled, self.weight, self.bias)
