"""What a head is put on: how the dimensions of a hidden state are read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ....errors import PassError

# a class token, one more for distillation (DeiT), four registers (DINOv2)
_EXTRA_TOKENS = (1, 2, 5)


@dataclass(frozen=True)
class FeatureLayout:
    """A hidden state, without its batch: a map (C, H, W) or (H, W, C), tokens (L, C), or a vector (C,).

    Of a shape of three, two equal dimensions in front of a different one are taken for space, so that channels come
    last; else channels come first. Tokens are a square grid where L is a square, or is one after 1, 2 or 5 extra tokens
    in front, of which the first is the class token. Under a mask the first token is the class token.

    Attributes:
        shape: Sizes; a free one is a string.
        masked: Whether a mask (N, L) comes with it, not zero where a token is real.
    """

    shape: tuple[int | str, ...]
    masked: bool = False

    def __post_init__(self):
        if not 1 <= len(self.shape) <= 3:
            raise PassError("it needs 1 to 3 dimensions besides batch")
        if not isinstance(self.channels, int):
            raise PassError("it needs a fixed number of channels")
        if self.masked and len(self.shape) != 2:
            raise PassError("a mask goes with tokens alone")

    @classmethod
    def of(cls, shape: Sequence[int | str], masked: bool = False) -> "FeatureLayout":
        """Read a shape without batch.

        Raises:
            PassError: Another number of dimensions, or free channels.
        """
        return cls(tuple(shape), masked)

    @property
    def channels_last(self) -> bool:
        """Whether channels are the last dimension."""
        return len(self.shape) < 3 or self.shape[0] == self.shape[1] != self.shape[2]

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.shape[-1] if self.channels_last else self.shape[0]

    @property
    def is_map(self) -> bool:
        """Whether it is a map of three dimensions."""
        return len(self.shape) == 3

    @property
    def is_tokens(self) -> bool:
        """Whether it is a sequence of tokens."""
        return len(self.shape) == 2

    @property
    def extra_tokens(self) -> int:
        """Tokens in front that stand for no place; the first is the class token."""
        if not self.is_tokens:
            return 0
        if self.masked:
            return 1
        length = self.shape[0]
        if not isinstance(length, int) or _is_square(length):
            return 0
        return next((extra for extra in _EXTRA_TOKENS if length - extra >= 4 and _is_square(length - extra)), 0)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Height and width of the places, or None where they are no grid of known size."""
        if self.is_map:
            sides = self.shape[:2] if self.channels_last else self.shape[1:]
            return sides if all(isinstance(side, int) for side in sides) else None
        if not self.is_tokens or self.masked or not isinstance(self.shape[0], int):
            return None
        places = self.shape[0] - self.extra_tokens
        return (math.isqrt(places),) * 2 if _is_square(places) else None


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number
