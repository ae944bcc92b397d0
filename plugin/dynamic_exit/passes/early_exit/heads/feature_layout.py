"""How the dimensions of a hidden state are read: a feature map, tokens or a vector."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ....errors import PassError

# a class token; a distillation token too (DeiT); a class token and four registers (DINOv2)
_EXTRA_TOKENS = (1, 2, 5)


@dataclass(frozen=True)
class FeatureLayout:
    """Layout of a hidden state without its batch dimension: map (C, H, W) or (H, W, C), tokens (L, C), vector (C,).

    A shape of three whose first two sizes are equal and differ from the last is read as channels-last, any other as
    channels-first. Tokens form a square grid if L is a square number, or becomes one without 1, 2 or 5 extra tokens in
    front, of which the first is the class token. Masked tokens form no grid, and their first is the class token if
    they have one: those of causal models, and of samples that are padded in front, have none.

    Attributes:
        shape: Sizes; a dynamic one is a string.
        masked: Whether a mask (N, L) comes with the hidden state, nonzero for real tokens and zero for padding.
        class_token: Whether masked tokens begin with a class token.

    Raises:
        PassError: Not 1 to 3 dimensions, a dynamic number of channels, or a mask for anything but tokens.
    """

    shape: tuple[int | str, ...]
    masked: bool = False
    class_token: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) <= 3:
            raise PassError("it needs 1 to 3 dimensions besides batch")
        if not isinstance(self._channels, int):
            raise PassError("it needs a fixed number of channels")
        if self.masked and len(self.shape) != 2:
            raise PassError("a mask goes with tokens alone")

    @classmethod
    def of(cls, shape: Sequence[int | str], masked: bool = False, class_token: bool = True) -> "FeatureLayout":
        """Return the layout of a shape without its batch dimension.

        Raises:
            PassError: As for the class.
        """
        return cls(tuple(shape), masked, class_token)

    @property
    def _channels(self) -> int | str:
        return self.shape[-1] if self.channels_last else self.shape[0]

    @property
    def channels_last(self) -> bool:
        """Whether channels are the last dimension."""
        return len(self.shape) < 3 or self.shape[0] == self.shape[1] != self.shape[2]

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self._channels)

    @property
    def is_map(self) -> bool:
        """Whether it is a feature map of three dimensions."""
        return len(self.shape) == 3

    @property
    def is_tokens(self) -> bool:
        """Whether it is a sequence of tokens."""
        return len(self.shape) == 2

    @property
    def length(self) -> int | None:
        """Number of tokens L, extra tokens included; None if it is dynamic, or these are no tokens."""
        length = self.shape[0]
        return length if self.is_tokens and isinstance(length, int) else None

    @property
    def extra_tokens(self) -> int:
        """Number of leading tokens that belong to no cell of the grid; the first is the class token."""
        if not self.is_tokens:
            return 0
        if self.masked:
            return int(self.class_token)
        length = self.length
        if length is None or _is_square(length):
            return 0
        return next((extra for extra in _EXTRA_TOKENS if length - extra >= 4 and _is_square(length - extra)), 0)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Height and width; None if there is no grid, or its size is dynamic."""
        if self.is_map:
            height, width = self.shape[:2] if self.channels_last else self.shape[1:]
            return (height, width) if isinstance(height, int) and isinstance(width, int) else None
        if self.masked or self.length is None:
            return None
        cells = self.length - self.extra_tokens
        return (math.isqrt(cells), math.isqrt(cells)) if _is_square(cells) else None


def is_padded_left(mask: Tensor | None) -> bool:
    """Whether the first token of some samples is padding, by their mask (N, L)."""
    return mask is not None and bool((mask[:, 0] == 0).any())


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number
