"""Classifiers of 32 x 32 images: the CIFAR ResNets of He et al. (arXiv 1512.03385) and the ResNet-8 of MLPerf Tiny.

Layers are called as in the published weights, so that these load without renaming.
"""

from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10


def resnet(depth: int) -> nn.Module:
    """CIFAR ResNet of 6 n + 2 layers, such as 20, 32, 44 or 56; takes normalised images (N, 3, 32, 32)."""
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"a CIFAR ResNet has 6 n + 2 layers, such as 20 or 56; got {depth}")
    return CifarResNet(blocks=(depth - 2) // 6)


def resnet8(width: int = 16, folded: bool = False) -> nn.Module:
    """ResNet-8 of MLPerf Tiny; takes pixels 0..255 (N, 3, 32, 32). `folded`: its norms are part of the convolutions."""
    return TinyResNet8(width, folded)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without parameters: every other pixel, new channels zero (option A)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.stride = 1 if channels == width else 2
        self.added = (width - channels) // 2
        self.conv1 = nn.Conv2d(channels, width, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))
        return F.relu(x + residual)


class CifarResNet(nn.Module):
    def __init__(self, blocks: int, width: int = 16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _blocks(width, width, blocks)
        self.layer2 = _blocks(width, 2 * width, blocks)
        self.layer3 = _blocks(2 * width, 4 * width, blocks)
        self.linear = nn.Linear(4 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _blocks(channels: int, width: int, count: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(channels, width), *(BasicBlock(width, width) for _ in range(count - 1)))


class TinyResNet8(nn.Module):
    def __init__(self, width: int, folded: bool):
        super().__init__()
        # convolution -> channels in and out in widths (0: the image), kernel, stride
        shapes = [(0, 1, 3, 1), (1, 1, 3, 1), (1, 1, 3, 1), (1, 2, 3, 2), (2, 2, 3, 1), (1, 2, 1, 2)]
        shapes += [(2, 4, 3, 2), (4, 4, 3, 1), (2, 4, 1, 2)]
        normed = [index for index, (_, _, kernel, _) in enumerate(shapes) if kernel == 3]
        for index, (before, after, kernel, stride) in enumerate(shapes):
            padding = 1 if (kernel, stride) == (3, 1) else 0
            conv = nn.Conv2d(before * width or 3, after * width, kernel, stride, padding)
            self.add_module(f"c{index}", conv)
        for place, index in enumerate(normed):
            norm = nn.Identity() if folded else nn.BatchNorm2d(shapes[index][1] * width, eps=1e-3)
            self.add_module(f"b{place}", norm)
        self.fc = nn.Linear(4 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.b0(self.c0(images)))
        x = F.relu(x + self.b2(self.c2(F.relu(self.b1(self.c1(x))))))
        x = F.relu(self.c5(x) + self.b4(self.c4(F.relu(self.b3(self.c3(_padded(x)))))))
        x = F.relu(self.c8(x) + self.b6(self.c7(F.relu(self.b5(self.c6(_padded(x)))))))
        return self.fc(x.mean((2, 3)))


def _padded(x: Tensor) -> Tensor:
    # "same" padding of TensorFlow at stride 2: right and below only
    return F.pad(x, (0, 1, 0, 1))
