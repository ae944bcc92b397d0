"""What heads see of a hidden state: nothing in here is trained, so it is computed once and kept."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .feature_layout import FeatureLayout


class Identity(nn.Module):
    """The hidden state as it is."""

    key = "whole"

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, ...)."""
        return hidden


class GlobalPool(nn.Module):
    """Mean over all places; where there is a class token, that token beside the mean of the others.

    Args:
        hidden: What is pooled: a map, tokens or a vector.

    Attributes:
        key: Features of one key at one cut are the same.
        channels: Width of what it gives: C, or 2C beside a class token.
    """

    key = "pooled"

    def __init__(self, hidden: FeatureLayout):
        super().__init__()
        self.hidden = hidden
        self.channels = hidden.channels * (2 if hidden.extra_tokens else 1)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool (N, ...) to (N, channels); `mask` (N, L) is not zero where a token is real."""
        if self.hidden.is_map:
            return hidden.mean((1, 2) if self.hidden.channels_last else (2, 3))
        if not self.hidden.is_tokens:
            return hidden
        extra = self.hidden.extra_tokens
        rest = hidden[:, extra:]
        if mask is None:
            mean = rest.mean(1)
        else:
            real = (mask[:, extra:] != 0).to(hidden.dtype).unsqueeze(2)
            mean = (rest * real).sum(1) / real.sum(1).clamp(min=1)
        return torch.cat([hidden[:, 0], mean], dim=1) if extra else mean


class GridPool(nn.Module):
    """Channels by places (N, C, P), averaged over neighbours until a grid has at most `side` x `side` places.

    A class token is one more place, in front. Tokens that are no grid are averaged along the sequence to at most
    `side` squared; under a mask, or where their number is free, they stay as they are. A mask goes along as one more
    channel, the last: 1 where a token is real, and other tokens are 0 throughout.

    Args:
        hidden: A map or tokens.
        side: Places along each side at most.

    Attributes:
        key: Features of one key at one cut are the same.
        channels: C, without the mask's.
        extra: 1 where a class token is in front, else 0.
        grid: Height and width of the other places, or None where they are a sequence.
        count: Number of places P, the class token included, or None where it is free.
    """

    def __init__(self, hidden: FeatureLayout, side: int):
        super().__init__()
        self.key = f"places{side}"
        self.hidden, self.channels, self.masked = hidden, hidden.channels, hidden.masked
        self.extra = 1 if hidden.extra_tokens else 0
        self.grid = self.count = None
        self.window: tuple[int, ...] = ()
        if hidden.grid:
            self.window = tuple(-(-size // side) for size in hidden.grid)
            self.grid = tuple(-(-size // window) for size, window in zip(hidden.grid, self.window, strict=True))
            self.count = self.grid[0] * self.grid[1] + self.extra
        elif not hidden.masked and isinstance(hidden.shape[0], int):
            self.window = (-(-hidden.shape[0] // side**2),)
            self.count = -(-hidden.shape[0] // self.window[0])

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, ...) to (N, C, P), with a mask (N, L) to (N, C + 1, L)."""
        if self.hidden.is_map:
            maps = hidden.permute(0, 3, 1, 2) if self.hidden.channels_last else hidden
            return self._pool(maps).flatten(2)
        places = hidden.transpose(1, 2)
        if mask is not None:
            real = (mask != 0).to(hidden.dtype).unsqueeze(1)
            return torch.cat([places * real, real], dim=1)
        extra = self.hidden.extra_tokens
        rest = places[:, :, extra:]
        if self.grid:
            rest = self._pool(rest.unflatten(2, self.hidden.grid)).flatten(2)
        elif self.window and self.window[0] > 1:
            size, window = self.hidden.shape[0], self.window[0]
            rest = functional.avg_pool1d(rest, window, window, _padding(size, window), count_include_pad=False)
        return torch.cat([places[:, :, :1], rest], dim=2) if extra else rest

    def _pool(self, maps: Tensor) -> Tensor:
        if max(self.window) == 1:
            return maps
        padding = tuple(map(_padding, self.hidden.grid, self.window))
        return functional.avg_pool2d(maps, self.window, self.window, padding, count_include_pad=False)


def _padding(size: int, window: int) -> int:
    """Padding on both sides, so that windows side by side cover everything."""
    return (-size % window + 1) // 2


class Standardize(nn.Module):
    """Takes each channel's mean away and divides by its deviation, both found once, before training.

    Batch statistics would make a head answer otherwise while it is trained than when it serves, and otherwise on one
    process than on two.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Find mean and deviation of (N, channels, ...); channels beyond the known ones are left out."""
        count = len(self.mean)
        values = features[:, :count].double().movedim(1, 0).flatten(1)
        self.mean.copy_(values.mean(1))
        # a channel that never changes says nothing: it is not blown up
        deviation = values.std(1, correction=0)
        self.scale.copy_(1 / deviation.clamp(min=1e-3 * float(deviation.max().clamp(min=1e-6))))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise (N, channels, ...)."""
        shape = (-1,) + (1,) * (features.dim() - 2)
        return (features - self.mean.view(shape)) * self.scale.view(shape)
