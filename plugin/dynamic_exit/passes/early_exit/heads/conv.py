"""Depthwise-separable convolutions on a small map, then pooling."""

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ....errors import PassError
from ...stanza import Stanza
from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GridPool, Standardize


class ConvOptions(Stanza):
    """What a recipe may set of a `conv`."""

    blocks: int = Field(1, ge=1, description="depthwise-separable blocks at the size where they end")
    halvings: int = Field(0, ge=0, description="blocks of stride 2 before those, each twice as wide, up to `width`")
    width: int | None = Field(None, ge=1, description="channels that a block gives; default: those of the hidden state")
    side: int = Field(4, ge=1, description="places along each side of the map at most; a larger one is averaged first")


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution (MobileNets, arXiv 1704.04861), around which the input is added.

    There is no batch norm: the input is standardised, weights keep its variance, and what is trained is what serves.

    Args:
        before: Channels in.
        after: Channels out.
        stride: 1 or 2; the input is added where shapes agree.
        dimensions: 2 for maps, 1 for sequences.
    """

    def __init__(self, before: int, after: int, stride: int, dimensions: int):
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv1d
        self.depthwise = convolution(before, before, 3, stride, padding=1, groups=before, bias=False)
        self.pointwise = convolution(before, after, 1)
        self.residual = before == after and stride == 1
        nn.init.kaiming_normal_(self.depthwise.weight, nonlinearity="linear")
        nn.init.kaiming_normal_(self.pointwise.weight)
        nn.init.zeros_(self.pointwise.bias)

    def forward(self, places: Tensor) -> Tensor:
        """Convolve (N, before, ...) to (N, after, ...)."""
        found = self.pointwise(self.depthwise(places))
        return functional.relu(found + places if self.residual else found)


@register_head("conv")
class ConvHead(ExitHead):
    """Depthwise-separable blocks, mean over places, linear layer.

    On tokens that are a square grid it convolves the grid, without the class token; on other tokens the sequence.

    Args:
        hidden: What it is put on: a map or tokens.
        classes: Number of logits C.
        blocks: Blocks of stride 1.
        halvings: Blocks of stride 2 before those, each twice as wide as what it gets, up to `width`.
        width: Channels that the blocks of stride 1 give; None takes those of the hidden state.
        side: Places along each side of the map at most; a larger one is averaged first.

    Raises:
        PassError: The hidden state has no places, or a mask goes with places that are halved.
    """

    Options = ConvOptions

    def __init__(
        self,
        hidden: FeatureLayout,
        classes: int,
        blocks: int = 1,
        halvings: int = 0,
        width: int | None = None,
        side: int = 4,
    ):
        if not (hidden.is_tokens or hidden.grid):
            raise PassError("it needs a map of known height and width, or tokens")
        if hidden.masked and halvings:
            raise PassError("tokens with a mask cannot be halved; set `halvings: 0`")
        super().__init__(GridPool(hidden, side))
        self.norm = Standardize(hidden.channels)
        width = width or hidden.channels
        widths = [hidden.channels]
        for _ in range(halvings):
            widths.append(min(2 * widths[-1], max(width, widths[-1])))
        widths += [width] * blocks
        strides = [2] * halvings + [1] * blocks
        dimensions = 2 if self.features.grid else 1
        self.blocks = nn.ModuleList(
            SeparableBlock(before, after, stride, dimensions)
            for (before, after), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.layer = nn.Linear(width, classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map places (N, C, P), with a mask (N, C + 1, P), to logits (N, classes)."""
        places = self.norm(features[:, : self.features.channels])
        if self.features.masked:
            real = features[:, self.features.channels :]
            for block in self.blocks:
                places = block(places * real)
            return self.layer((places * real).sum(2) / real.sum(2).clamp(min=1))
        places = places[:, :, self.features.extra :]
        if self.features.grid:
            places = places.unflatten(2, self.features.grid)
        for block in self.blocks:
            places = block(places)
        return self.layer(places.flatten(2).mean(2))
