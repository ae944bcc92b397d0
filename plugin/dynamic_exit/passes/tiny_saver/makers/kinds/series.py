"""Small 1-D residual networks for series."""

from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from .....errors import PassError
from ..base import Architecture
from ..encoders import EncoderMaker, EncoderMakerStanza
from ..residual import ResidualBlock, convolution

#: Channels of the first stage (the next one has twice as many), and blocks of each stage.
SIZES = ((4, 1), (8, 1), (12, 1), (16, 1), (24, 1), (32, 1), (32, 2), (48, 2), (64, 2), (96, 2), (128, 2))
# longest series that the stem does not make shorter, and the longest behind it
_SHORT, _STEM_LENGTH = 32, 128
_KERNEL = 5


class SeriesStanza(EncoderMakerStanza):
    """Residual networks of two stages of 1-D convolutions; their width fits the share."""

    epochs: int = Field(60, ge=1, description="passes over the training split")
    batch_size: int = Field(32, ge=2, description="samples per step at least, if there are as many")


class SeriesMaker(EncoderMaker):
    """Makes residual networks for one float input of series (N, channels, length)."""

    Options = SeriesStanza
    takes = "one input of float series (channels, length)"

    @classmethod
    def suits(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether there is one float input (N, channels, length)."""
        tensors = [*inputs.values()]
        return len(tensors) == 1 and tensors[0].dim() == 3 and tensors[0].is_floating_point()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Name of the series."""
        return tuple(self.task.inputs)

    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return networks of all sizes.

        Raises:
            PassError: A value is missing.
        """
        (series,) = self.task.inputs.values()
        missing = series.isnan().any(dim=2).any(dim=1)
        if missing.any():
            first = int(missing.nonzero()[0])
            raise PassError(
                f"{int(missing.sum())} of {len(series)} training series hold NaN, the first is sample {first}; fill "
                "missing values in before"
            )
        length, stride = series.shape[2], 1 if series.shape[2] <= _SHORT else 2
        while length / stride > _STEM_LENGTH:
            stride *= 2
        mean, std = series.mean(dim=(0, 2)), series.std(dim=(0, 2)).clamp(min=1e-6)
        common = {"stride": stride, "mean": mean.tolist(), "std": std.tolist()}
        return [{"width": width, "depth": depth, **common} for width, depth in SIZES]

    def build(self, architecture: Architecture) -> nn.Module:
        """Build an untrained network."""
        return SeriesNet(classes=self.task.classes, **architecture)

    def encoder(self, model: nn.Module) -> nn.Module:
        """Return all but the head."""
        assert isinstance(model, SeriesNet)
        return model.encoder


class SeriesNet(nn.Module):
    """A residual network of two stages; arguments but `classes`, the number of logits, are those of its encoder."""

    def __init__(self, width: int, stride: int, depth: int, mean: Sequence[float], std: Sequence[float], classes: int):
        super().__init__()
        self.encoder = SeriesEncoder(width, stride, depth, mean, std)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, series: Tensor) -> Tensor:
        """Map series (N, channels, length) to logits (N, classes)."""
        return self.head(self.encoder(series).mean(dim=2))


class SeriesEncoder(nn.Module):
    """The stages of a residual network, with its normalization of channels.

    Args:
        width: Channels of the first stage.
        stride: Of the stem.
        depth: Blocks of each stage.
        mean: Of each channel of the series.
        std: Of each channel of the series.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, stride: int, depth: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        values = Tensor(mean), Tensor(std)
        for name, each in zip(("mean", "std"), values, strict=True):
            self.register_buffer(name, each[:, None], persistent=False)
        self.stem = convolution(1, len(mean), width, stride, max(7, 2 * stride + 1))
        sizes = [(width, width, 1), *[(width, width, 1)] * (depth - 1), (width, 2 * width, 2)]
        sizes += [(2 * width, 2 * width, 1)] * (depth - 1)
        self.body = nn.Sequential(*(ResidualBlock(1, *size, _KERNEL) for size in sizes))

    def forward(self, series: Tensor) -> Tensor:
        """Map series (N, channels, length) to features by position (N, 2 width, length / 2 stride)."""
        return self.body(functional.relu(self.stem((series - self.mean) / self.std)))


KIND = SeriesMaker
