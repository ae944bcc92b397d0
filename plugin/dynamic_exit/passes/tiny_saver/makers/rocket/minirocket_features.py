"""MiniRocket (Dempster et al., arXiv 2012.08791): 84 fixed kernels by dilation, biases out of the training data."""

import itertools
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .features import KernelGroup, SeriesFeatures, share_positive
from .rocket_features import random_channels

#: Weights of a kernel.
LENGTH = 9
#: Number of kernels of one dilation: all ways to have three weights of 2 among nine, the others being -1.
KERNELS = 84
_MAX_DILATIONS = 32


class MiniRocketFeatures(SeriesFeatures):
    """Features of series, (N, channels, length) -> (N, features): shares of outputs above biases (PPV).

    Series are not standardized: the biases are quantiles of outputs on training series. A kernel here is one of the 84
    at one dilation, with all its biases; its features stand side by side, in the order of the groups.
    """

    min_length = LENGTH

    @classmethod
    def fit(cls, series: Tensor, count: int, seed: int) -> Self:
        """Choose dilations for a length of series, and biases for training series.

        Args:
            series: float (N, channels, length) of at least `min_length` steps.
            count: Number of features wanted; it is rounded down to a multiple of 84, but 84 at least.
            seed: Decides which series give the biases, and which channels each kernel looks at.
        """
        generator = np.random.default_rng(seed)
        channels, length = series.shape[1:]
        dilations, counts = spread_biases(length, max(1, count // KERNELS))
        quantiles = np.arange(1, KERNELS * counts.sum() + 1) * ((np.sqrt(5) + 1) / 2) % 1
        groups = []
        for place, (dilation, biases) in enumerate(zip(dilations.tolist(), counts.tolist(), strict=True)):
            seen = random_channels(generator, KERNELS, channels, LENGTH)
            weight = fixed_kernels(channels) * torch.from_numpy(seen)[:, :, None]
            drawn = series[torch.from_numpy(generator.integers(len(series), size=KERNELS))].float()
            taken, quantiles = np.split(quantiles, [KERNELS * biases])
            bias = _biases(weight, drawn, dilation, taken.reshape(KERNELS, biases))
            # padding alternates from kernel to kernel, and from dilation to dilation
            padded = (place + torch.arange(KERNELS)) % 2 == 0
            full = KernelGroup(weight, bias, dilation, (LENGTH - 1) * dilation // 2)
            groups += [full.select(padded), KernelGroup(weight[~padded], bias[~padded], dilation, 0)]
        return cls(groups)

    def kernel_of_feature(self) -> Tensor:
        """Return the kernel that each feature comes from, int64 (features,)."""
        counts = [torch.full((len(group),), group.bias.shape[1]) for group in self.kernel_groups]
        return torch.arange(self.kernel_count).repeat_interleave(torch.cat(counts))

    def forward(self, series: Tensor) -> Tensor:
        """Map series (N, channels, length) to features (N, features)."""
        return torch.cat([_shares_above(group, series) for group in self.kernel_groups], dim=1)


def fixed_kernels(channels: int) -> Tensor:
    """Return the weights of the 84 kernels, the same for all channels: float32 (84, channels, 9)."""
    weight = torch.full((KERNELS, LENGTH), -1.0)
    for kernel, places in enumerate(itertools.combinations(range(LENGTH), 3)):
        weight[kernel, list(places)] = 2.0
    return weight[:, None].repeat(1, channels, 1)


def spread_biases(length: int, biases: int) -> tuple[np.ndarray, np.ndarray]:
    """Spread the biases of a kernel over dilations on an exponential scale.

    Args:
        length: Of the series.
        biases: Of one kernel in all its dilations, at least 1.

    Returns:
        The dilations, and how many of the biases each has: two int64 (dilations,).
    """
    steps = min(biases, _MAX_DILATIONS)
    exponents = np.linspace(0, np.log2((length - 1) / (LENGTH - 1)), steps)
    dilations, counts = np.unique((2**exponents).astype(np.int64), return_counts=True)
    counts = (counts * (biases / steps)).astype(np.int64)
    missing = biases - counts.sum()
    counts += missing // len(counts) + (np.arange(len(counts)) < missing % len(counts))
    return dilations, counts


def _biases(weight: Tensor, series: Tensor, dilation: int, quantiles: np.ndarray) -> Tensor:
    """Return quantiles of each kernel's output on its own series: float32 (kernels, biases)."""
    kernels, channels, _ = weight.shape
    together = series.reshape(1, kernels * channels, -1)
    padding = (LENGTH - 1) * dilation // 2
    outputs = functional.conv1d(together, weight, padding=padding, dilation=dilation, groups=kernels)[0].numpy()
    rows = [np.quantile(output, row) for output, row in zip(outputs, quantiles, strict=True)]
    return torch.from_numpy(np.stack(rows)).to(torch.float32)


def _shares_above(group: KernelGroup, series: Tensor) -> Tensor:
    """Return the share of each output above each bias: (N, kernels * biases)."""
    above = group.convolve(series)[:, :, None] > group.bias[:, :, None]
    return share_positive(above).flatten(1)
