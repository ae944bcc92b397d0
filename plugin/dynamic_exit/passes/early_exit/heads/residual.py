"""Dense convolutions that halve the map, each followed by a residual one: a small network of its own."""

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ....errors import PassError
from ...stanza import Stanza
from .base import ExitHead, register_head
from .feature_layout import FeatureLayout
from .pooling import GridPool, Standardize


class ResidualOptions(Stanza):
    """What a recipe may set of a `residual`."""

    blocks: int = Field(2, ge=1, description="blocks, each of which halves the map and doubles the channels")
    width: int | None = Field(None, ge=1, description="channels of the first block; default: twice the hidden state's")
    side: int = Field(32, ge=1, description="places along each side of the map at most; a larger one is averaged first")


class ResidualBlock(nn.Module):
    """A 3x3 convolution of stride 2, then a 3x3 convolution around which its input is added (arXiv 1512.03385).

    There is no batch norm, for the reason `Standardize` gives; the added convolution starts at zero (arXiv 1901.09321).

    Args:
        before: Channels in.
        after: Channels out.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.halving = nn.Conv2d(before, after, 3, 2, padding=1)
        self.added = nn.Conv2d(after, after, 3, padding=1)
        nn.init.kaiming_normal_(self.halving.weight)
        nn.init.zeros_(self.added.weight)
        for layer in (self.halving, self.added):
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve (N, before, H, W) to (N, after, H / 2, W / 2), rounded up."""
        maps = functional.relu(self.halving(maps))
        return functional.relu(maps + self.added(maps))


@register_head("residual")
class ResidualHead(ExitHead):
    """Residual blocks, mean over places, linear layer: dearer than other heads, for early positions.

    With the default width a block costs about the same at every stage of a network that doubles its channels where it
    halves its maps.

    Args:
        hidden: What it is put on: a map, or tokens that are a grid.
        classes: Number of logits C.
        blocks: How many, each with twice the channels of the one before.
        width: Channels of the first block; None takes twice those of the hidden state.
        side: Places along each side of the map at most; a larger one is averaged first.

    Raises:
        PassError: The hidden state is no grid.
    """

    Options = ResidualOptions

    def __init__(self, hidden: FeatureLayout, classes: int, blocks: int = 2, width: int | None = None, side: int = 32):
        if not hidden.grid:
            raise PassError("it needs a map of known height and width, or tokens that are a grid")
        super().__init__(GridPool(hidden, side))
        self.norm = Standardize(hidden.channels)
        widths = [(width or 2 * hidden.channels) * 2**block for block in range(blocks)]
        pairs = zip([hidden.channels, *widths], widths, strict=False)
        self.blocks = nn.Sequential(*(ResidualBlock(before, after) for before, after in pairs))
        self.layer = nn.Linear(widths[-1], classes)

    def answer(self, features: Tensor) -> Tensor:
        """Map places (N, C, P) to logits (N, classes)."""
        maps = self.norm(features)[:, :, self.features.extra :].unflatten(2, self.features.grid)
        return self.layer(self.blocks(maps).mean((2, 3)))
