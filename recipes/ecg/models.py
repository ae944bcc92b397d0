"""A 1-D residual network for heartbeats (after Wang et al., arXiv 1611.06455)."""

from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 5
WIDTHS = (48, 48, 96, 96)


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, width, 7, stride, 3, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv1d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, L) to (N, width, L / stride)."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class HeartbeatNet(nn.Module):
    """An encoder of four blocks, the mean over time, and one layer."""

    def __init__(self) -> None:
        super().__init__()
        channels = (1, *WIDTHS)
        strides = (1, 1, 2, 1)
        self.encoder = nn.Sequential(
            *(Block(a, b, stride) for a, b, stride in zip(channels, WIDTHS, strides, strict=False))
        )
        self.linear = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, heartbeats: Tensor) -> Tensor:
        """Map heartbeats (N, 1, L) to logits (N, 5)."""
        return self.linear(self.encoder(heartbeats).mean(2))


def backbone() -> nn.Module:
    """Build an untrained network."""
    return HeartbeatNet()
