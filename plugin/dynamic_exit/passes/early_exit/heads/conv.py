"""Depthwise-separable convolutions on a small map, then global pooling."""

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
    """Options of the head `conv` in a recipe."""

    blocks: int = Field(1, ge=1, description="depthwise-separable blocks of stride 1, after those of stride 2")
    halvings: int = Field(0, ge=0, description="blocks of stride 2 before those, each twice as wide, up to `width`")
    width: int | None = Field(None, ge=1, description="output channels of a block; default: those of the hidden state")
    side: int = Field(4, ge=1, description="cells along each side of the map at most; a larger one is average-pooled")


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution (MobileNets, arXiv 1704.04861) with a residual connection.

    There is no batch norm: the input is standardized, the initial weights preserve its variance, and the head answers
    in use as it did in training.

    Args:
        before: Input channels.
        after: Output channels.
        stride: 1 or 2; the residual connection exists if input and output have the same shape.
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
        if self.pointwise.bias is not None:
            nn.init.zeros_(self.pointwise.bias)

    def forward(self, cells: Tensor) -> Tensor:
        """Convolve (N, before, ...) to (N, after, ...)."""
        made = self.pointwise(self.depthwise(cells))
        return functional.relu(made + cells if self.residual else made)


@register_head("conv")
class ConvHead(ExitHead):
    """Depthwise-separable blocks, global average pooling, one linear layer.

    Tokens that form a square grid are convolved in 2D without their class token, other tokens in 1D.

    Args:
        layout: Of the hidden state: a map or tokens.
        classes: Number of logits C.
        blocks: Blocks of stride 1.
        halvings: Blocks of stride 2 before those, each twice as wide as its input, up to `width`.
        width: Output channels of the blocks of stride 1; None means those of the hidden state.
        side: Cells along each side of the map at most; a larger one is average-pooled.

    Raises:
        PassError: The hidden state is neither a map of fixed size nor tokens, or masked tokens would be halved.
    """

    features: GridPool
    Options = ConvOptions

    def __init__(
        self,
        layout: FeatureLayout,
        classes: int,
        blocks: int = 1,
        halvings: int = 0,
        width: int | None = None,
        side: int = 4,
    ):
        if not (layout.is_tokens or layout.grid):
            raise PassError("it needs a map of known height and width, or tokens")
        if layout.masked and halvings:
            raise PassError("tokens with a mask cannot be halved; set `halvings: 0`")
        super().__init__(GridPool(layout, side))
        self.norm = Standardize(layout.channels)
        width = width or layout.channels
        widths = [layout.channels]
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
        """Map cells (N, C, P), with a mask (N, C + 1, P), to logits (N, classes)."""
        cells = self.norm(features[:, : self.features.channels])
        if self.features.masked:
            real = features[:, self.features.channels :]
            for block in self.blocks:
                cells = block(cells * real)
            return self.layer((cells * real).sum(2) / real.sum(2).clamp(min=1))
        cells = cells[:, :, self.features.extra :]
        if self.features.grid:
            cells = cells.unflatten(2, self.features.grid)
        for block in self.blocks:
            cells = block(cells)
        return self.layer(cells.flatten(2).mean(2))
