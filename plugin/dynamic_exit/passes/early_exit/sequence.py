"""The exit sequence network: exits that see what all earlier positions saw (TinySaver, arXiv 2403.17726)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...chain.names import LOGITS, MEMORY
from .config import SequenceOptions
from .features import FeatureRequest, Key, SaverModule
from .heads import ExitHead
from .heads.base import set_inputs
from .heads.feature_layout import FeatureLayout
from .heads.pooling import GlobalPool, Standardize

#: Key of the last saver's logits among the features that heads are trained on.
SAVER: Key = (-1, "saver")


class Token(ExitHead):
    """The tap of one position: its pooled features as a token.

    Args:
        layout: Of the hidden state.
        width: Size D of a token.
    """

    features: GlobalPool

    def __init__(self, layout: FeatureLayout, width: int):
        pool = GlobalPool(layout)
        super().__init__(pool)
        self.width = width
        self.norm = Standardize(pool.channels)
        # the layer norm's bias is learned per position, so that it also encodes the position
        self.layer = nn.Sequential(nn.Linear(pool.channels, width), nn.LayerNorm(width))

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, channels) to tokens (N, D)."""
        return self.layer(self.norm(features))


class SaverToken(ExitHead):
    """The tap of the last saver: its logits unchanged, then its probabilities as a token.

    Args:
        classes: Number of logits C.
        width: Size D of a token.
    """

    input_names = (LOGITS,)

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.width = classes + width
        self.norm = Standardize(classes)
        self.layer = nn.Sequential(nn.Linear(classes, width), nn.LayerNorm(width))

    def prepare(self, features: Tensor) -> None:
        """Estimate mean and deviation of the saver's probabilities from its logits (N, C)."""
        self.norm.fit(torch.softmax(features, dim=1))

    def answer(self, features: Tensor) -> Tensor:
        """Map logits (N, C) to (N, C + D)."""
        return torch.cat([features, self.layer(self.norm(torch.softmax(features, dim=1)))], dim=1)


class SequenceHead(nn.Module):
    """The exit of one position: its token attends to all tokens so far, and the result corrects the saver's logits.

    Args:
        classes: Number of logits C.
        tokens: Number T of tokens up to this position, whose own is the last.
        options: Size D of a token and number of attention heads.
        with_saver: Whether the memory begins with the saver's logits.

    Attributes:
        input_names: Names of the arguments of ``forward``: the features of all taps so far.
        columns: Width of the memory that ``forward`` expects.
    """

    input_names = (MEMORY,)

    def __init__(self, classes: int, tokens: int, options: SequenceOptions, with_saver: bool):
        super().__init__()
        width = options.width
        self.tokens, self.width, self.heads = tokens, width, options.heads
        self.logit_columns = classes if with_saver else 0
        self.columns = self.logit_columns + tokens * width
        self.query = nn.Linear(width, width)
        self.pairs = nn.Linear(width, 2 * width)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        last = nn.Linear(width, classes)
        self.layer = nn.Sequential(nn.LayerNorm(width), last)
        if with_saver:  # starts with no correction
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, memory: Tensor) -> Tensor:
        """Map the memory (N, columns) to logits (N, C)."""
        tokens = memory[:, self.logit_columns :].unflatten(1, (self.tokens, self.width))
        own = tokens[:, -1]
        mixed = own + self.mix(self._attend(own, tokens))
        correction = self.layer(mixed + self.mlp(mixed))
        return memory[:, : self.logit_columns] + correction if self.logit_columns else correction

    def _attend(self, own: Tensor, tokens: Tensor) -> Tensor:
        size = self.width // self.heads
        query = self.query(own).unflatten(1, (self.heads, 1, size))
        keys, values = self.pairs(tokens).unflatten(2, (2 * self.heads, size)).transpose(1, 2).chunk(2, dim=1)
        attention = torch.softmax(query @ keys.transpose(2, 3) / math.sqrt(size), dim=3)
        return (attention @ values).flatten(1)


class SequenceNetwork(nn.Module):
    """All taps and exits of a backbone, trained jointly: an exit's loss shapes the tokens of all earlier positions.

    Args:
        layouts: Of the hidden state at each position, by depth.
        masks: For each, the name of the model's input that is the mask of its tokens, or None.
        classes: Number of logits C.
        options: Size of a token and number of attention heads.
        with_saver: Whether exits build on a saver's logits.

    Attributes:
        positions: Index of the segment that each exit follows.
    """

    def __init__(
        self,
        layouts: Sequence[FeatureLayout],
        masks: Sequence[str | None],
        classes: int,
        options: SequenceOptions,
        with_saver: bool,
    ):
        super().__init__()
        self.positions = tuple(range(len(layouts)))
        self.saver = SaverToken(classes, options.width) if with_saver else None
        tokens = [Token(layout, options.width) for layout in layouts]
        for token, layout, mask in zip(tokens, layouts, masks, strict=True):
            set_inputs(token, layout.shape, mask)
        self.tokens = nn.ModuleList(tokens)
        first = int(with_saver)
        self.heads = nn.ModuleList(
            SequenceHead(classes, first + count + 1, options, with_saver) for count in range(len(tokens))
        )

    @property
    def taps(self) -> dict[int, ExitHead]:
        """The taps of the dynamic model, by index of the segment; -1 is the last saver."""
        first: dict[int, ExitHead] = {} if self.saver is None else {-1: self.saver}
        return first | dict(zip(self.positions, cast(Iterable[ExitHead], self.tokens), strict=True))

    @property
    def keys(self) -> dict[int, Key]:
        """Keys of the features that each tap reads."""
        tokens = zip(self.positions, cast(Iterable[Token], self.tokens), strict=True)
        first = {} if self.saver is None else {-1: SAVER}
        return first | {at: (at, token.features.key) for at, token in tokens}

    def requests(self, saver: SaverModule | None, input_names: Sequence[str]) -> dict[Key, FeatureRequest]:
        """Return the features that it is trained on.

        Args:
            saver: The last saver; it takes all inputs, or those in its `input_names`.
            input_names: Of all inputs of the model.
        """
        requests = {} if saver is None else {SAVER: FeatureRequest(saver, _inputs_of(saver, input_names))}
        for at, tap in self.taps.items():
            if at >= 0:
                requests[self.keys[at]] = FeatureRequest(tap.features, tap.input_names)
        return requests

    def prepare(self, features: Mapping[Key, Tensor]) -> None:
        """Let the taps look at the features of some training samples before training."""
        for at, tap in self.taps.items():
            tap.prepare(features[self.keys[at]])

    def forward(self, features: Mapping[Key, Tensor]) -> Tensor:
        """Map features by key, each (B, ...), to logits float32 (S, B, C) of S positions."""
        memory = [tap.answer(features[self.keys[at]]) for at, tap in self.taps.items()]
        first = len(memory) - len(self.heads)
        logits = [head(torch.cat(memory[: first + i + 1], dim=1)) for i, head in enumerate(self.heads)]
        return torch.stack([each.float() for each in logits])


def _inputs_of(saver: SaverModule, input_names: Sequence[str]) -> tuple[str, ...]:
    return tuple(getattr(saver, "input_names", None) or input_names)
