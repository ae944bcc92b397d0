"""Attention pooling: learned queries that weigh tokens or cells."""

import torch
from pydantic import Field
from torch import Tensor, nn

from ....errors import PassError
from ...stanza import Stanza
from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GridPool, Standardize


class AttentionOptions(Stanza):
    """Options of the head `attention` in a recipe."""

    queries: int = Field(16, ge=1, description="learned queries")
    side: int = Field(8, ge=1, description="cells along each side of the map at most; a larger one is average-pooled")


@register_head("attention")
class AttentionHead(ExitHead):
    """Attention pooling by learned queries over tokens or cells, then one linear layer.

    A query that is learned rather than computed absorbs the key projection, and the value projection commutes with the
    weighted mean, so that the scores are one product of the queries (Q, C) with the cells (C, P). If the number of
    cells is fixed, each query also has a learned score per cell. Queries start small, close to plain mean pooling.

    Args:
        layout: Of the hidden state: a map or tokens.
        classes: Number of logits.
        queries: Number of queries Q.
        side: Cells along each side of the map at most; a larger one is average-pooled.

    Raises:
        PassError: The hidden state is neither a map of fixed size nor tokens.
    """

    features: GridPool
    Options = AttentionOptions

    def __init__(self, layout: FeatureLayout, classes: int, queries: int = 16, side: int = 8):
        if not (layout.is_tokens or layout.grid):
            raise PassError("it needs a map of known height and width, or tokens")
        super().__init__(GridPool(layout, side))
        channels = layout.channels
        self.norm = Standardize(channels)
        self.queries = nn.Parameter(torch.randn(queries, channels) * 0.1 * channels**-0.5)
        self.places = nn.Parameter(torch.zeros(queries, self.features.count or 1))
        self.layer = nn.Linear(queries * channels, classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map cells (N, C, P), with a mask (N, C + 1, P), to logits (N, classes)."""
        # attention weights sum to 1, so standardizing queries and means equals standardizing every cell
        cells = features[:, : self.features.channels]
        queries = self.queries * self.norm.scale
        scores = queries @ cells + (self.places - (queries @ self.norm.mean).unsqueeze(1))
        if self.features.masked:
            scores = scores.masked_fill(features[:, self.features.channels :] == 0, -1e4)
        means = torch.softmax(scores, dim=2) @ cells.transpose(1, 2)
        return self.layer(((means - self.norm.mean) * self.norm.scale).flatten(1))
