"""What ROCKET and MiniRocket have in common: groups of convolutions whose outputs are reduced to features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

# floats that the outputs of one batch of a group may hold where features are computed for training
_FLOATS_AT_A_TIME = 1 << 22


class GroupShape(NamedTuple):
    """The shape of a group of kernels, as JSON may hold it.

    Attributes:
        kernels: Number of kernels, at least 1.
        length: Weights of a kernel per channel.
        biases: Of each kernel, at least 1.
        dilation: Steps from one weight to the next, at least 1.
        padding: Zeros on either side of a series.
    """

    kernels: int
    length: int
    biases: int
    dilation: int
    padding: int


class KernelGroup(nn.Module):
    """Kernels of the same length, dilation and padding, as one convolution.

    Args:
        weight: float32 (kernels, channels, length); zeros stand for channels that a kernel does not look at.
        bias: float32 (kernels, biases).
        dilation: As in `GroupShape`.
        padding: As in `GroupShape`.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int, padding: int):
        super().__init__()
        self.dilation, self.padding = dilation, padding
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @classmethod
    def of_shape(cls, shape: GroupShape, channels: int) -> Self:
        """Return a group of that shape with arbitrary weights."""
        weight = torch.linspace(-1, 1, shape.length).repeat(shape.kernels, channels, 1)
        return cls(weight, torch.zeros(shape.kernels, shape.biases), shape.dilation, shape.padding)

    @property
    def shape(self) -> GroupShape:
        """Its shape."""
        return GroupShape(len(self), self.weight.shape[2], self.bias.shape[1], self.dilation, self.padding)

    def convolve(self, series: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map series (N, channels, length) to (N, kernels, output length), with a bias (kernels,) added or none."""
        return functional.conv1d(series, self.weight, bias, padding=self.padding, dilation=self.dilation)

    def output_length(self, length: int) -> int:
        """Return how many steps an output has for series of `length`."""
        return length + 2 * self.padding - (self.weight.shape[2] - 1) * self.dilation

    def select(self, kernels: Tensor) -> Self:
        """Return the group with some of its kernels; bool (kernels,)."""
        return type(self)(self.weight[kernels], self.bias[kernels], self.dilation, self.padding)

    def __len__(self) -> int:
        return self.weight.shape[0]


class SeriesFeatures(nn.Module, ABC):
    """Features of series, (N, channels, length) -> (N, features), from groups of convolutions.

    Several features share the output of one kernel, so that a kernel is needed as long as one of them is.

    Args:
        groups: At least one, none of them empty.
    """

    #: Steps of the longest kernel, and therefore of the shortest series.
    min_length: int

    def __init__(self, groups: Sequence[KernelGroup]):
        super().__init__()
        self.groups = nn.ModuleList(groups)

    @classmethod
    @abstractmethod
    def fit(cls, series: Tensor, count: int, seed: int) -> Self:
        """Make features for series.

        Args:
            series: float (N, channels, length) of at least `min_length` steps.
            count: Of random kernels; of features where kernels are fixed.
            seed: Decides all draws.
        """

    @classmethod
    def of_shapes(cls, shapes: Sequence[GroupShape], channels: int) -> Self:
        """Return features of groups of these shapes with arbitrary weights, into which a state can be loaded."""
        return cls([KernelGroup.of_shape(shape, channels) for shape in shapes])

    @property
    def kernel_groups(self) -> list[KernelGroup]:
        """The groups in the order of their kernels."""
        return [group for group in self.groups if isinstance(group, KernelGroup)]

    @property
    def kernel_count(self) -> int:
        """Number of kernels."""
        return sum(len(group) for group in self.kernel_groups)

    @abstractmethod
    def kernel_of_feature(self) -> Tensor:
        """Return the kernel that each feature comes from, int64 (features,)."""

    @abstractmethod
    def forward(self, series: Tensor) -> Tensor:
        """Map series (N, channels, length) to features (N, features)."""

    def kernel_macs(self, length: int) -> Tensor:
        """Return the multiply-adds of every kernel on one series of `length`, float64 (kernels,)."""
        counts = [
            torch.full((len(group),), group.weight[0].numel() * group.output_length(length), dtype=torch.float64)
            for group in self.kernel_groups
        ]
        return torch.cat(counts)

    def select(self, kernels: Tensor) -> Self:
        """Return features of some of the kernels alone; bool (kernels,), at least one of them."""
        chosen = kernels.split([len(group) for group in self.kernel_groups])
        pairs = zip(self.kernel_groups, chosen, strict=True)
        return type(self)([group.select(some) for group, some in pairs if some.any()])

    @torch.no_grad()
    def compute(self, series: Tensor) -> Tensor:
        """Compute features of many series, in batches that suit the memory.

        Args:
            series: float (N, channels, length).

        Returns:
            float32 (N, features).
        """
        largest = max(group.bias.numel() * group.output_length(series.shape[2]) for group in self.kernel_groups)
        return torch.cat([self(batch.float()) for batch in series.split(max(1, _FLOATS_AT_A_TIME // largest))])


def standardize_series(series: Tensor) -> Tensor:
    """Give every channel of every series zero mean and unit variance; constant channels become zero.

    Args:
        series: float (N, channels, length).
    """
    mean = series.mean(dim=2, keepdim=True)
    centered = series - mean
    deviation = centered.square().mean(dim=2, keepdim=True).sqrt()
    # the mean of a constant channel is exact up to rounding alone
    return centered / torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.ones_like(deviation))


def share_positive(values: Tensor) -> Tensor:
    """Return the share of true elements along the last dimension: PPV, the proportion of positive values."""
    return values.to(torch.float32).mean(dim=-1)
