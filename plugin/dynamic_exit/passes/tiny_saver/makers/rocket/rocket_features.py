"""ROCKET (Dempster et al., arXiv 1910.13051): random convolutional kernels, two features of each."""

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .features import KernelGroup, SeriesFeatures, share_positive, standardize_series

#: Lengths of kernels.
LENGTHS = (7, 9, 11)


class RocketFeatures(SeriesFeatures):
    """Features of standardized series, (N, channels, length) -> (N, 2 * kernels).

    The first `kernels` features are the shares of positive outputs (PPV), the others the largest outputs (MAX), both in
    the order of the groups.
    """

    min_length = max(LENGTHS)

    @classmethod
    def fit(cls, series: Tensor, count: int, seed: int) -> Self:
        """Draw `count` random kernels for the shape of `series`, (N, channels, length)."""
        return cls.random(count, series.shape[1], series.shape[2], seed)

    @classmethod
    def random(cls, kernels: int, channels: int, length: int, seed: int) -> Self:
        """Draw kernels as the paper does.

        A kernel has 7, 9 or 11 weights drawn from N(0, 1) and centered, a bias from U(-1, 1), a dilation on an
        exponential scale up to the length of the series, and padding in half of the cases. Of several channels it
        looks at a random subset.

        Args:
            kernels: Number of kernels, at least 1.
            channels: Of the series, at least 1.
            length: Of the series, at least `min_length`.
            seed: Decides all draws.
        """
        generator = np.random.default_rng(seed)
        lengths = generator.choice(LENGTHS, kernels)
        exponents = generator.uniform(0, np.log2((length - 1) / (lengths - 1)))
        dilations = (2**exponents).astype(np.int64)
        paddings = np.where(generator.random(kernels) < 0.5, (lengths - 1) * dilations // 2, 0)
        groups = []
        for size, dilation, padding in np.unique(np.stack([lengths, dilations, paddings], axis=1), axis=0).tolist():
            count = int(((lengths == size) & (dilations == dilation) & (paddings == padding)).sum())
            weight = generator.standard_normal((count, channels, size))
            weight -= weight.mean(axis=2, keepdims=True)
            weight *= random_channels(generator, count, channels, size)[:, :, None]
            bias = generator.uniform(-1, 1, (count, 1))
            groups.append(KernelGroup(_float32(weight), _float32(bias), dilation, padding))
        return cls(groups)

    def kernel_of_feature(self) -> Tensor:
        """Return the kernel that each feature comes from, int64 (features,)."""
        return torch.arange(self.kernel_count).repeat(2)

    def forward(self, series: Tensor) -> Tensor:
        """Map series (N, channels, length) to features (N, 2 * kernels)."""
        series = standardize_series(series)
        outputs = (group.convolve(series, group.bias[:, 0]) for group in self.kernel_groups)
        pairs = [(share_positive(output > 0), output.amax(dim=2)) for output in outputs]
        return torch.cat([*(share for share, _ in pairs), *(largest for _, largest in pairs)], dim=1)


def random_channels(generator: np.random.Generator, kernels: int, channels: int, length: int) -> np.ndarray:
    """Draw which channels each kernel looks at: bool (kernels, channels), at most `length` of them."""
    counts = (2 ** generator.uniform(0, math.log2(min(channels, length) + 1), kernels)).astype(np.int64)
    ranks = generator.random((kernels, channels)).argsort(axis=1).argsort(axis=1)
    return ranks < counts[:, None]


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).to(torch.float32)
