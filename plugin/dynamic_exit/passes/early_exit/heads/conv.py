"""Depthwise-separable convolutions on a small map, then pooling."""

from pydantic import Field
from torch import Tensor, nn

from ....errors import PassError
from ...stanza import Stanza
from .base import ExitHead, register_head
from .hidden import Hidden
from .pooling import Places, Standardise


class ConvOptions(Stanza):
    """What a recipe may set of a `conv`."""

    blocks: int = Field(1, ge=1, description="depthwise-separable blocks")
    width: int | None = Field(None, ge=1, description="channels that a block gives; default: those of the hidden state")
    side: int = Field(8, ge=1, description="places along each side of the map at most; a larger one is averaged first")


@register_head("conv")
class ConvHead(ExitHead):
    """Blocks of depthwise 3x3 and pointwise convolution (MobileNets, arXiv 1704.04861), mean, linear layer.

    On tokens that are a square grid it convolves the grid, without the class token; on other tokens the sequence.

    Args:
        hidden: What it is put on: a map or tokens.
        classes: Number of logits C.
        blocks: Number of blocks.
        width: Channels that a block gives; None takes those of the hidden state.
        side: Places along each side of the map at most; a larger one is averaged first.

    Raises:
        PassError: The hidden state has no places.
    """

    Options = ConvOptions

    def __init__(self, hidden: Hidden, classes: int, blocks: int = 1, width: int | None = None, side: int = 8):
        if not (hidden.is_tokens or hidden.grid):
            raise PassError("it needs a map of known height and width, or tokens")
        super().__init__(Places(hidden, side))
        self.norm = Standardise(hidden.channels)
        convolution = nn.Conv2d if self.features.grid else nn.Conv1d
        parts, before = [], hidden.channels
        for _ in range(blocks):
            after = width or hidden.channels
            depthwise = convolution(before, before, 3, padding=1, groups=before, bias=False)
            parts += [depthwise, convolution(before, after, 1), nn.ReLU()]
            before = after
        self.blocks = nn.Sequential(*parts)
        self.layer = nn.Linear(before, classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map places (N, C, P), with a mask (N, C + 1, P), to logits (N, classes)."""
        places = self.norm(features[:, : self.features.channels])
        if self.features.masked:
            real = features[:, self.features.channels :]
            found = self.blocks(places * real) * real
            return self.layer(found.sum(2) / real.sum(2).clamp(min=1))
        places = places[:, :, self.features.extra :]
        if self.features.grid:
            return self.layer(self.blocks(places.unflatten(2, self.features.grid)).mean((2, 3)))
        return self.layer(self.blocks(places).mean(2))
