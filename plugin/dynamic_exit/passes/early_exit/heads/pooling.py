"""What heads read of a hidden state. Nothing here is trained, so it is computed once per sample and cached."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .feature_layout import FeatureLayout

# deviation of a channel over its mean up to which it varies by rounding
_ROUNDING = 1e-5


class Identity(nn.Module):
    """The hidden state unchanged."""

    key = "identity"

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden state (N, ...)."""
        return hidden


class GlobalPool(nn.Module):
    """Mean over all cells or tokens; a class token is concatenated in front of the mean of the others.

    Args:
        layout: Of the hidden state: a map, tokens or a vector.

    Attributes:
        key: Features with the same key at the same cut are equal and cached once.
        channels: Number of features: C, or 2C with a class token.
    """

    key = "global_pool"

    def __init__(self, layout: FeatureLayout):
        super().__init__()
        self.layout = layout
        self.channels = layout.channels * (2 if layout.extra_tokens else 1)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool (N, ...) to (N, channels); `mask` (N, L) is nonzero for real tokens."""
        if self.layout.is_map:
            return hidden.mean((1, 2) if self.layout.channels_last else (2, 3))
        if not self.layout.is_tokens:
            return hidden
        extra = self.layout.extra_tokens
        rest = hidden[:, extra:]
        if mask is None:
            mean = rest.mean(1)
        else:
            real = (mask[:, extra:] != 0).to(hidden.dtype).unsqueeze(2)
            mean = (rest * real).sum(1) / real.sum(1).clamp(min=1)
        return torch.cat([hidden[:, 0], mean], dim=1) if extra else mean


class GridPool(nn.Module):
    """Average pooling onto a grid of at most `side` x `side` cells, flattened to (N, C, P).

    A class token becomes one more cell in front. Tokens that form no grid are averaged along the sequence to at most
    `side` squared; with a mask, or if their number is dynamic, they stay as they are. The mask is appended as one more
    channel: 1 for real tokens, 0 for padding, whose other channels are 0 too.

    Args:
        layout: Of the hidden state: a map or tokens.
        side: Cells along each side at most.

    Attributes:
        key: Features with the same key at the same cut are equal and cached once.
        channels: Number of channels C, without that of the mask.
        extra: 1 if the first cell is a class token, else 0.
        grid: Height and width of the other cells, or None if they are a sequence.
        count: Number of cells P, the class token included, or None if it is dynamic.
        window: Kernel size and stride of the pooling, for each dimension; empty if nothing is pooled.
    """

    def __init__(self, layout: FeatureLayout, side: int):
        super().__init__()
        self.key = f"grid_pool{side}"
        self.layout, self.channels, self.masked = layout, layout.channels, layout.masked
        self.extra = 1 if layout.extra_tokens else 0
        self.grid: tuple[int, int] | None = None
        self.count: int | None = None
        self.window: tuple[int, ...] = ()
        if layout.grid:
            height, width = (-(-size // side) for size in layout.grid)
            self.window = (height, width)
            self.grid = (-(-layout.grid[0] // height), -(-layout.grid[1] // width))
            self.count = self.grid[0] * self.grid[1] + self.extra
        elif not layout.masked and layout.length is not None:
            self.window = (-(-layout.length // side**2),)
            self.count = -(-layout.length // self.window[0])

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, ...) to (N, C, P), with a mask (N, L) to (N, C + 1, L)."""
        if self.layout.is_map:
            maps = hidden.permute(0, 3, 1, 2) if self.layout.channels_last else hidden
            return self._pool(maps).flatten(2)
        tokens = hidden.transpose(1, 2)
        if mask is not None:
            real = (mask != 0).to(hidden.dtype).unsqueeze(1)
            return torch.cat([tokens * real, real], dim=1)
        extra = self.layout.extra_tokens
        rest = tokens[:, :, extra:]
        if self.layout.grid:
            rest = self._pool(rest.unflatten(2, self.layout.grid)).flatten(2)
        elif self.layout.length is not None and self.window and self.window[0] > 1:
            window = self.window[0]
            padding = _padding(self.layout.length, window)
            rest = functional.avg_pool1d(rest, window, window, padding, count_include_pad=False)
        return torch.cat([tokens[:, :, :1], rest], dim=2) if extra else rest

    def _pool(self, maps: Tensor) -> Tensor:
        if max(self.window) == 1:
            return maps
        padding = tuple(map(_padding, self.layout.grid or (), self.window))
        return functional.avg_pool2d(maps, self.window, self.window, padding, count_include_pad=False)


def _padding(size: int, window: int) -> int:
    """Return the padding of both sides with which adjacent windows cover everything."""
    return (-size % window + 1) // 2


class Standardize(nn.Module):
    """Subtracts each channel's mean and divides by its standard deviation, both estimated once before training.

    In place of a batch norm: batch statistics would make a head answer differently in training and in use, and
    differently in one process and in several.

    Args:
        channels: Number of channels.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Estimate mean and deviation from features (N, channels, ...); extra channels, such as a mask, are ignored."""
        count = len(self.mean)
        values = features[:, :count].double().movedim(1, 0).flatten(1)
        self.mean.copy_(values.mean(1))
        # a channel that hardly varies holds no information and is not amplified
        deviation, mean = values.std(1, correction=0), values.mean(1)
        scale = 1 / deviation.clamp(min=1e-3 * float(deviation.max().clamp(min=1e-6)))
        # one that varies by rounding alone, such as the first token of a causal model, is left out
        self.scale.copy_(scale * (deviation >= _ROUNDING * mean.abs()))

    def forward(self, features: Tensor) -> Tensor:
        """Standardize features (N, channels, ...)."""
        shape = (-1,) + (1,) * (features.dim() - 2)
        return (features - self.mean.view(shape)) * self.scale.view(shape)
