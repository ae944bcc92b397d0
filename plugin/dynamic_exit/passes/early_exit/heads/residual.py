"""Dense residual convolutions that halve the map: a small ResNet as a head."""

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ....errors import PassError
from ...stanza import Stanza
from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GridPool, Standardize


class ResidualOptions(Stanza):
    """Options of the head `residual` in a recipe."""

    blocks: int = Field(2, ge=1, description="blocks, each of which halves the map and doubles the channels")
    width: int | None = Field(None, ge=1, description="channels of the first block; default: twice the hidden state's")
    side: int = Field(32, ge=1, description="cells along each side of the map at most; a larger one is average-pooled")


class ResidualBlock(nn.Module):
    """A 3x3 convolution of stride 2, then a residual 3x3 convolution (arXiv 1512.03385).

    There is no batch norm, for the reason that `Standardize` gives; the residual convolution starts at zero
    (arXiv 1901.09321).

    Args:
        before: Input channels.
        after: Output channels.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.halving = nn.Conv2d(before, after, 3, 2, padding=1)
        self.added = nn.Conv2d(after, after, 3, padding=1)
        nn.init.kaiming_normal_(self.halving.weight)
        nn.init.zeros_(self.added.weight)
        for layer in (self.halving, self.added):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve (N, before, H, W) to (N, after, H / 2, W / 2), rounded up."""
        maps = functional.relu(self.halving(maps))
        return functional.relu(maps + self.added(maps))


@register_head("residual")
class ResidualHead(ExitHead):
    """Residual blocks, global average pooling, one linear layer: more expensive than other heads, for early cuts.

    With the default width a block costs about the same at every stage of a network that doubles its channels whenever
    it halves its maps.

    Args:
        layout: Of the hidden state: a map, or tokens that form a grid.
        classes: Number of logits C.
        blocks: Number of blocks, each with twice the channels of the one before.
        width: Channels of the first block; None means twice those of the hidden state.
        side: Cells along each side of the map at most; a larger one is average-pooled.

    Raises:
        PassError: The hidden state is no grid of fixed size.
    """

    features: GridPool
    Options = ResidualOptions

    def __init__(self, layout: FeatureLayout, classes: int, blocks: int = 2, width: int | None = None, side: int = 32):
        if not layout.grid:
            raise PassError("it needs a map of known height and width, or tokens that are a grid")
        super().__init__(GridPool(layout, side))
        self.norm = Standardize(layout.channels)
        widths = [(width or 2 * layout.channels) * 2**block for block in range(blocks)]
        pairs = zip([layout.channels, *widths], widths, strict=False)
        self.blocks = nn.Sequential(*(ResidualBlock(before, after) for before, after in pairs))
        self.layer = nn.Linear(widths[-1], classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map cells (N, C, P) to logits (N, classes)."""
        maps = self.norm(features)[:, :, self.features.extra :].unflatten(2, self.features.grid or ())
        return self.layer(self.blocks(maps).mean((2, 3)))
