"""Small convolutional networks for images, of a shape that runtimes are fast at."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from .....graph.preprocessing import Preprocessing
from ....choices import AUGMENTS, AugmentName
from ..base import Architecture
from ..encoders import EncoderMaker, EncoderMakerStanza
from ..residual import ResidualBlock, convolution

#: Channels of the first stage (the next ones have twice and four times as many), and blocks of each stage: networks
#: that are to cost more become deeper, too.
SIZES = (
    *((4, 1), (8, 1), (12, 1), (16, 1), (24, 1), (32, 1)),
    *((32, 2), (48, 2), (64, 2), (64, 3), (96, 3), (128, 3), (128, 4), (192, 4), (256, 4)),
)
#: The stem halves images of at least so many lines, until they have at most so many.
DOWNSAMPLED_SIDE, STEM_SIDE = 8, 32
# of the samples that mean and standard deviation are taken of
_SAMPLES = 2000
_KERNEL = 3


class ConvNetStanza(EncoderMakerStanza):
    """Residual networks of three stages behind a stem that halves the image at once; their width fits the share."""

    stride: Literal[1, 2, 4, 8] | None = Field(
        None, description="of the stem; null: 1 for images below 8 pixels, else as it takes to come down to 32 or less"
    )
    depth: int | None = Field(
        None, ge=1, le=8, description="blocks of each of the three stages; null: 1 to 4, more in wider networks"
    )
    augment: AugmentName = Field("affine", description=AUGMENTS)


class ConvNetMaker(EncoderMaker):
    """Makes residual networks for one input of images (N, C, H, W)."""

    Options = ConvNetStanza
    takes = "one input of images, 4 x 4 pixels or more"

    @classmethod
    def suits(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether there is one input of images, of at least 4 x 4 pixels."""
        shapes = [tensor.shape for tensor in inputs.values()]
        return len(shapes) == 1 and len(shapes[0]) == 4 and min(shapes[0][2:]) >= 4

    @property
    def input_names(self) -> tuple[str, ...]:
        """Name of the images."""
        return tuple(self.task.inputs)

    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return networks of all sizes."""
        (images,) = self.task.inputs.values()
        some = images[:_SAMPLES].float()
        mean, std = some.mean(dim=(0, 2, 3)), some.std(dim=(0, 2, 3)).clamp(min=1e-6)
        stride = self.stanza.stride or _stem_stride(min(images.shape[2:]))
        common = {"stride": stride, "mean": mean.tolist(), "std": std.tolist()}
        sizes = [(width, self.stanza.depth or depth) for width, depth in SIZES]
        return [{"width": width, "depth": depth, **common} for width, depth in dict.fromkeys(sizes)]

    def build(self, architecture: Architecture) -> nn.Module:
        """Build an untrained network."""
        return ConvNet(classes=self.task.classes, **architecture)

    def encoder(self, model: nn.Module) -> nn.Module:
        """Return all but the head."""
        assert isinstance(model, ConvNet)
        return model.encoder


class ConvNet(nn.Module):
    """A residual network of three stages, with its normalization of pixels.

    Args:
        width: Channels of the first stage.
        stride: Of the stem, a power of two: as many convolutions of stride 2, or one of stride 1.
        depth: Blocks of each stage.
        mean: Of each channel of the images.
        std: Of each channel of the images.
        classes: Number of logits.
    """

    def __init__(self, width: int, stride: int, depth: int, mean: Sequence[float], std: Sequence[float], classes: int):
        super().__init__()
        layers: list[nn.Module] = [Preprocessing(mean=mean, std=std)]
        layers += [convolution(2, len(mean), width, min(stride, 2), _KERNEL), nn.ReLU()]
        while stride > 2:
            layers += [convolution(2, width, width, 2, _KERNEL), nn.ReLU()]
            stride //= 2
        block = partial(ResidualBlock, 2, kernel=_KERNEL)
        blocks = [block(width * 2 ** max(0, stage - 1), width * 2**stage, 1 if stage == 0 else 2) for stage in range(3)]
        for stage, first in enumerate(blocks):
            layers += [first, *(block(width * 2**stage, width * 2**stage, 1) for _ in range(depth - 1))]
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return self.head(self.encoder(images).mean(dim=(2, 3)))


def _stem_stride(side: int) -> int:
    stride = 1 if side < DOWNSAMPLED_SIDE else 2
    while side / stride > STEM_SIDE:
        stride *= 2
    return stride


KIND = ConvNetMaker
