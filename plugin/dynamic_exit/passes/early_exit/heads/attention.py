"""Learned queries that look at the places which matter."""

import torch
from pydantic import Field
from torch import Tensor, nn

from ....errors import PassError
from ...stanza import Stanza
from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GridPool, Standardize


class AttentionOptions(Stanza):
    """What a recipe may set of an `attention`."""

    queries: int = Field(16, ge=1, description="learned queries")
    side: int = Field(8, ge=1, description="places along each side of a map at most; a larger one is averaged first")


@register_head("attention")
class AttentionHead(ExitHead):
    """Attention pooling: learned queries over tokens or places, then a linear layer.

    A query that is learned and not computed takes the key projection into itself, and the value projection commutes
    with the weighted mean, so that scores are one product of the queries (Q, C) with the places (C, P). Where the
    number of places is fixed, each query also has a learned score for each place. Queries start small:
    nearly plain mean pooling.

    Args:
        hidden: What it is put on: a map or tokens.
        classes: Number of logits.
        queries: Number of queries Q.
        side: Places along each side of a map at most; a larger one is averaged first.

    Raises:
        PassError: The hidden state has no places.
    """

    Options = AttentionOptions

    def __init__(self, hidden: FeatureLayout, classes: int, queries: int = 16, side: int = 8):
        if not (hidden.is_tokens or hidden.grid):
            raise PassError("it needs a map of known height and width, or tokens")
        super().__init__(GridPool(hidden, side))
        channels = hidden.channels
        self.norm = Standardize(channels)
        self.queries = nn.Parameter(torch.randn(queries, channels) * 0.1 * channels**-0.5)
        self.places = nn.Parameter(torch.zeros(queries, self.features.count or 1))
        self.layer = nn.Linear(queries * channels, classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map places (N, C, P), with a mask (N, C + 1, P), to logits (N, classes)."""
        # weights add up to 1: standardising queries and means instead of every place gives the same
        places = features[:, : self.features.channels]
        queries = self.queries * self.norm.scale
        scores = queries @ places + (self.places - (queries @ self.norm.mean).unsqueeze(1))
        if self.features.masked:
            scores = scores.masked_fill(features[:, self.features.channels :] == 0, -1e4)
        means = torch.softmax(scores, dim=2) @ places.transpose(1, 2)
        return self.layer(((means - self.norm.mean) * self.norm.scale).flatten(1))
