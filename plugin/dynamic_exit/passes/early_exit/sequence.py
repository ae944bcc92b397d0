"""The exit sequence network: exits that see what all earlier positions saw (TinySaver, arXiv 2403.17726)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .features import FeatureRequest, Key
from .heads import ExitHead
from .heads.base import name_inputs
from .heads.feature_layout import FeatureLayout
from .heads.pooling import GlobalPool, Standardize

#: Of the last saver's logits among the features that heads are trained on.
SAVER: Key = (-1, "saver")


class Token(ExitHead):
    """The tap of one position: its pooled features as a token.

    Args:
        hidden: What is pooled.
        width: Numbers D of a token.
    """

    def __init__(self, hidden: FeatureLayout, width: int):
        super().__init__(GlobalPool(hidden))
        self.width = width
        self.norm = Standardize(self.features.channels)
        # the norm's bias is learned for this position alone: it tells positions apart
        self.layer = nn.Sequential(nn.Linear(self.features.channels, width), nn.LayerNorm(width))

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, channels) to tokens (N, D)."""
        return self.layer(self.norm(features))


class SaverToken(ExitHead):
    """The tap of the last saver: its logits as they are, and its probabilities as a token.

    Args:
        classes: Number of logits C.
        width: Numbers D of a token.
    """

    input_names = ("logits",)

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.width = classes + width
        self.norm = Standardize(classes)
        self.layer = nn.Sequential(nn.Linear(classes, width), nn.LayerNorm(width))

    def prepare(self, features: Tensor) -> None:
        """Find mean and deviation of the saver's probabilities from its logits (N, C)."""
        self.norm.fit(torch.softmax(features, dim=1))

    def answer(self, features: Tensor) -> Tensor:
        """Map logits (N, C) to (N, C + D)."""
        return torch.cat([features, self.layer(self.norm(torch.softmax(features, dim=1)))], dim=1)


class SequenceHead(nn.Module):
    """An exit of one position: its token attends to all tokens so far, and corrects the saver's logits.

    Args:
        classes: Number of logits C.
        tokens: Number T of tokens up to here, its own the last.
        width: Numbers D of a token.
        heads: Heads of the attention, which divide `width`.
        saver: Whether the saver's logits stand before the tokens.

    Attributes:
        input_names: Names of the arguments of ``forward``: the features of all taps so far.
        columns: Width of the memory that it wants.
    """

    input_names = ("memory",)

    def __init__(self, classes: int, tokens: int, width: int, heads: int, saver: bool):
        super().__init__()
        self.tokens, self.width, self.heads = tokens, width, heads
        self.skipped = classes if saver else 0
        self.columns = self.skipped + tokens * width
        self.query = nn.Linear(width, width)
        self.pairs = nn.Linear(width, 2 * width)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.layer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))
        if saver:  # starts as the saver's own answer
            nn.init.zeros_(self.layer[1].weight)
            nn.init.zeros_(self.layer[1].bias)

    def forward(self, memory: Tensor) -> Tensor:
        """Map the memory (N, columns) to logits (N, C)."""
        tokens = memory[:, self.skipped :].unflatten(1, (self.tokens, self.width))
        own = tokens[:, -1]
        seen = own + self.mix(self._attend(own, tokens))
        correction = self.layer(seen + self.mlp(seen))
        return memory[:, : self.skipped] + correction if self.skipped else correction

    def _attend(self, own: Tensor, tokens: Tensor) -> Tensor:
        size = self.width // self.heads
        query = self.query(own).unflatten(1, (self.heads, 1, size))
        keys, values = self.pairs(tokens).unflatten(2, (2 * self.heads, size)).transpose(1, 2).chunk(2, dim=1)
        shares = torch.softmax(query @ keys.transpose(2, 3) / math.sqrt(size), dim=3)
        return (shares @ values).flatten(1)


class SequenceNetwork(nn.Module):
    """All taps and exits of a backbone, trained as one: an exit's loss shapes the tokens of all earlier positions.

    Args:
        shapes: Of the hidden state at each position, by depth; a free dimension is a string.
        masks: For each, the model's input that is the mask of its tokens, or None.
        places: For each, the index of the segment behind which it stands.
        classes: Number of logits C.
        saver: Whether exits build on a saver's logits.
        width: Numbers D of a token.
        heads: Heads of the attention.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int | str]],
        masks: Sequence[str | None],
        places: Sequence[int],
        classes: int,
        *,
        saver: bool,
        width: int,
        heads: int,
    ):
        super().__init__()
        self.places = tuple(places)
        first = int(saver)
        self.saver = SaverToken(classes, width) if saver else None
        tokens = [
            Token(FeatureLayout.of(shape, mask is not None), width) for shape, mask in zip(shapes, masks, strict=True)
        ]
        for token, shape, mask in zip(tokens, shapes, masks, strict=True):
            name_inputs(token, shape, mask)
        self.tokens = nn.ModuleList(tokens)
        self.heads = nn.ModuleList(
            SequenceHead(classes, first + count + 1, width, heads, saver) for count in range(len(tokens))
        )

    @property
    def taps(self) -> dict[int, ExitHead]:
        """The taps of the dynamic model, by index of the segment; -1 is the last saver."""
        first = {} if self.saver is None else {-1: self.saver}
        return first | dict(zip(self.places, self.tokens, strict=True))

    @property
    def keys(self) -> dict[int, Key]:
        """Keys of the features that each tap reads."""
        return {at: SAVER if at < 0 else (at, tap.features.key) for at, tap in self.taps.items()}

    def wanted(self, saver: nn.Module | None, input_names: Sequence[str]) -> dict[Key, FeatureRequest]:
        """Return the features that it is trained on; `saver` takes all inputs, or those that it states."""
        found = {
            self.keys[at]: FeatureRequest(tap.features, tap.input_names) for at, tap in self.taps.items() if at >= 0
        }
        taken = tuple(getattr(saver, "input_names", None) or input_names)
        return found if saver is None else {SAVER: FeatureRequest(saver, taken), **found}

    def prepare(self, features: Mapping[Key, Tensor]) -> None:
        """Look at the features of some training samples before training."""
        for at, tap in self.taps.items():
            tap.prepare(features[self.keys[at]])

    def forward(self, features: Mapping[Key, Tensor]) -> Tensor:
        """Map features by key, each (B, ...), to logits float32 (S, B, C) of S positions."""
        memory = [tap.answer(features[self.keys[at]]) for at, tap in self.taps.items()]
        first = len(memory) - len(self.heads)
        answers = [head(torch.cat(memory[: first + i + 1], dim=1)) for i, head in enumerate(self.heads)]
        return torch.stack([answer.float() for answer in answers])
