"""Segments of samples along their positions: which are masked, and what is to be predicted there."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import PassError

#: Added to the variance of a segment, as a share of the channel's: a flat segment has the target 0, not its noise.
_FLAT = 1e-4
# of the samples that mean and variance of channels are taken of
_SAMPLES = 2000


class Segments:
    """Segments of samples (N, channels, length) or (N, channels, height, width), of which some are masked.

    Only whole segments count: positions behind the last one are never masked. Each sample has the same number of masked
    segments, which depend on the seed, its row and the epoch alone.

    Args:
        samples: Float or uint8, without NaN.
        segment: Positions of a segment; of images its side.
        mask: Share of the segments that is masked.
        seed: Of the masks.

    Attributes:
        grid: Segments along each axis of positions.
        masked: Masked segments of each sample.

    Raises:
        PassError: A segment is longer than the samples, or the share masks none or all of them.
    """

    def __init__(self, samples: Tensor, segment: int, mask: float, seed: int):
        self.samples, self.segment, self.seed = samples, segment, seed
        sides = samples.shape[2:]
        if segment > min(sides):
            raise PassError(
                f"a segment of {segment} positions is longer than the samples, of {' x '.join(map(str, sides))}; "
                "give a shorter one"
            )
        self.grid = tuple(side // segment for side in sides)
        count = math.prod(self.grid)
        self.masked = round(mask * count)
        if self.masked in (0, count):
            raise PassError(
                f"a mask of {mask:g} masks {'none' if self.masked == 0 else 'all'} of {count} segments; give another "
                "share or a shorter segment"
            )
        self._epoch, self._masks = -1, torch.empty(0)

    def masks(self, rows: Tensor, epoch: int) -> Tensor:
        """Return which segments of some rows, int64 (B,), are masked in an epoch: bool (B, segments)."""
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.rand(len(self.samples), math.prod(self.grid), generator=generator).argsort(dim=1)
            self._masks = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, : self.masked], True)
            self._epoch = epoch
        return self._masks[rows]

    def hide(self, rows: Tensor, epoch: int) -> Tensor:
        """Return the samples of some rows as float, with the channel's mean at masked positions."""
        hidden = self.masks(rows, epoch).reshape(len(rows), 1, *self.grid)
        for axis in range(len(self.grid)):
            hidden = hidden.repeat_interleave(self.segment, dim=2 + axis)
        sides = zip(self.samples.shape[2:], hidden.shape[2:], strict=True)
        rest = [0 if end == 0 else side - whole for side, whole in reversed([*sides]) for end in (0, 1)]
        return torch.where(functional.pad(hidden, rest), self._statistics[0], self.samples[rows].float())

    def loss(self, predicted: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """Return the mean squared error on masked segments alone, a scalar; about 1 if all that is predicted is 0.

        Args:
            predicted: Of the normalized targets, float (B, channels, ...), as large as the samples.
            rows: int64 (B,).
            epoch: Decides what is masked.
        """
        masks = self.masks(rows, epoch).to(predicted.device)
        targets = self.targets(rows).to(predicted.device)
        return functional.mse_loss(self.cut(predicted)[masks], targets[masks])

    def targets(self, rows: Tensor) -> Tensor:
        """Return what is to be predicted: each channel of each segment with mean 0 and variance 1.

        Args:
            rows: int64 (B,).

        Returns:
            (B, segments, channels, values); 0 where a segment is flat.
        """
        cut = self.cut(self.samples[rows].float())
        spread = cut.var(dim=3, keepdim=True, unbiased=False) + _FLAT * self._statistics[1].reshape(-1, 1)
        return (cut - cut.mean(dim=3, keepdim=True)) / spread.clamp(min=1e-12).sqrt()

    def cut(self, values: Tensor) -> Tensor:
        """Cut values (B, channels, ...) into whole segments, (B, segments, channels, values of one)."""
        for axis in range(len(self.grid)):
            values = values.unfold(2 + axis, self.segment, self.segment)
        return values.reshape(*values.shape[:2], math.prod(self.grid), -1).transpose(1, 2)

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel, (channels, 1, ...)."""
        axes, values = [0, *range(2, self.samples.dim())], self.samples[:_SAMPLES].float()
        variance, mean = torch.var_mean(values, dim=axes, keepdim=True, unbiased=False)
        return mean[0], variance[0]


def check_series(samples: Tensor) -> None:
    """Refuse samples that cannot be cut into segments.

    Raises:
        PassError: They are fewer than two, neither series nor images, or hold NaN or infinity.
    """
    if samples.dim() not in (3, 4) or not (samples.is_floating_point() or samples.dtype == torch.uint8):
        kind = str(samples.dtype).removeprefix("torch.")
        raise PassError(
            "pre-training needs samples (N, channels, length) or (N, channels, height, width), float or uint8; got "
            f"{kind} {tuple(samples.shape)}"
        )
    if len(samples) < 2:
        raise PassError(f"pre-training needs at least 2 samples; got {len(samples)}")
    bad = _not_finite(samples)
    if bad:
        raise PassError(
            f"{len(bad)} of {len(samples)} samples hold NaN or infinity, the first is sample {bad[0]}; fill missing "
            "values in before"
        )


def _not_finite(samples: Tensor) -> Sequence[int]:
    if not samples.is_floating_point():
        return []
    return [int(row) for row in (~samples.flatten(1).isfinite().all(dim=1)).nonzero()]
