"""Residual blocks of convolutions, for images and for series."""

from torch import Tensor, nn
from torch.nn import functional

_LAYERS = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d)}


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut; from `given` channels to `channels`.

    Args:
        dimensions: 1 for series, 2 for images.
        given: Channels that come in.
        channels: Channels that go out.
        stride: Of the first convolution.
        kernel: Side of both convolutions.
    """

    def __init__(self, dimensions: int, given: int, channels: int, stride: int, kernel: int):
        super().__init__()
        self.first = convolution(dimensions, given, channels, stride, kernel)
        self.second = convolution(dimensions, channels, channels, 1, kernel)
        same = given == channels and stride == 1
        self.shortcut = nn.Identity() if same else convolution(dimensions, given, channels, stride, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (N, given, ...) to (N, channels, ...), with each side divided by the stride."""
        inner = self.second(functional.relu(self.first(hidden)))
        return functional.relu(inner + self.shortcut(hidden))


def convolution(dimensions: int, given: int, channels: int, stride: int, kernel: int) -> nn.Sequential:
    """Return a convolution that keeps the size up to its stride, and its batch norm; arguments as above."""
    layer, norm = _LAYERS[dimensions]
    return nn.Sequential(layer(given, channels, kernel, stride, kernel // 2, bias=False), norm(channels))
