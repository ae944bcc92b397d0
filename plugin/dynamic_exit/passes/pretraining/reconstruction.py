"""An encoder with a light decoder, which fills in masked segments of its inputs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import PassError, first_line

#: Channels between the two convolutions of the decoder.
WIDTH = 64
# tokens in front that belong to no position: a class token; a distillation token too; a class token and four registers
_EXTRA_TOKENS = (0, 1, 2, 5)
# samples on which an encoder is tried
_TRIED = 8
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_INTERPOLATIONS = {1: "linear", 2: "bilinear"}


class Reconstruction(nn.Module):
    """An encoder and a decoder of two convolutions, from samples (N, channels, ...) to values as large as these.

    Which axis of the features holds channels is found by trying: a change at one end of the samples moves along all
    others.

    Args:
        encoder: In evaluation mode; gives features by position: (N, C, L'), (N, T, D), (N, C, H', W') or
            (N, H', W', C). Tokens of images are row by row; up to five may stand in front that have no position.
        samples: Float or uint8 (N, channels, length) or (N, channels, height, width), as the encoder takes them.

    Raises:
        PassError: The encoder has nothing to train, fails on the samples, or gives no features by position.
    """

    def __init__(self, encoder: nn.Module, samples: Tensor):
        super().__init__()
        self.encoder, self.sides = encoder, tuple(samples.shape[2:])
        if not any(True for _ in encoder.parameters()):
            raise PassError(f"the encoder, a {type(encoder).__name__}, has no parameters to train; give another one")
        first = samples[:_TRIED].float()
        features = self._try(first)
        self._axis = self._find_channels(first, features)
        dimensions, channels = len(self.sides), samples.shape[1]
        by_position = self._by_position(features)
        self.factors = [math.ceil(side / found) for side, found in zip(self.sides, by_position.shape[2:], strict=True)]
        layer = _CONVOLUTIONS[dimensions]
        self.decoder = nn.Sequential(
            layer(by_position.shape[1], WIDTH, 3, padding=1),
            nn.GELU(),
            layer(WIDTH, channels * math.prod(self.factors), 1),
        )

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (N, channels, ...) to predicted values of the same shape."""
        decoded = self.decoder(self._by_position(self.encoder(samples)))
        count, sides = len(self.factors), decoded.shape[2:]
        values = decoded.reshape(len(decoded), -1, *self.factors, *sides)  # each position predicts a patch of values
        order = [axis for each in range(count) for axis in (2 + count + each, 2 + each)]
        whole = [factor * side for factor, side in zip(self.factors, sides, strict=True)]
        values = values.permute(0, 1, *order).reshape(len(decoded), -1, *whole)
        if tuple(whole) == self.sides:
            return values
        return functional.interpolate(values, self.sides, mode=_INTERPOLATIONS[count], align_corners=False)

    def _try(self, samples: Tensor) -> Tensor:
        """Return what the encoder gives for a few samples."""
        try:
            with torch.no_grad():
                found = self.encoder(samples)
        except Exception as error:  # code of users may raise anything
            raise PassError(f"the encoder fails on samples {tuple(samples.shape)}: {first_line(error)}") from error
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        axes = {3} if len(self.sides) == 1 else {3, 4}
        if not isinstance(found, Tensor) or found.dim() not in axes or sum(side > 1 for side in found.shape[1:]) < 2:
            raise PassError(
                f"the encoder gives {shape} for samples {tuple(samples.shape)}, which are no features by position; "
                "give a part that ends before the mean over positions"
            )
        return found

    def _find_channels(self, samples: Tensor, features: Tensor) -> int:
        """Return the axis of channels: the one along which changes at both ends of the samples look alike."""
        centers = []
        noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(0)) * samples.std()
        size = math.ceil(min(self.sides) / 4)
        for end in (slice(None, size), slice(-size, None)):
            changed = samples.clone()
            place = (slice(None), slice(None), *[end] * len(self.sides))
            changed[place] += noise[place]
            centers.append(_centers((self._try(changed) - features).abs()))
        moved = [abs(first - last) for first, last in zip(*centers, strict=True)]
        axes = [axis for axis in range(1, features.dim()) if features.shape[axis] > 1]
        return min(axes, key=lambda axis: moved[axis - 1])

    def _by_position(self, features: Tensor) -> Tensor:
        """Return features (N, C, L') or (N, C, H', W')."""
        moved = features.movedim(self._axis, 1)
        if moved.dim() == 2 + len(self.sides):
            return moved if len(self.sides) == 2 else moved[:, :, self._extra_tokens(moved.shape[2]) :]
        extra = self._extra_tokens(moved.shape[2])
        return moved[:, :, extra:].unflatten(2, _grid(moved.shape[2] - extra, self.sides) or (1, -1))

    def _extra_tokens(self, count: int) -> int:
        """Return how many tokens in front have no position: as few as let the others cover the samples evenly."""
        for extra in _EXTRA_TOKENS:
            rest = count - extra
            if rest > 0 and (self.sides[0] % rest == 0 if len(self.sides) == 1 else _grid(rest, self.sides)):
                return extra
        return 0


def _grid(count: int, sides: Sequence[int]) -> tuple[int, int] | None:
    """Return height and width of a grid of so many cells, in the proportions of an image; None if there is none."""
    height = round(math.sqrt(count * sides[0] / sides[1]))
    width = count // max(1, height)
    return (height, width) if height * width == count and height * sides[1] == width * sides[0] else None


def _centers(change: Tensor) -> list[float]:
    """Return where changes (N, ...) have their center along each axis but the first, from 0 to 1."""
    found = []
    for axis in range(1, change.dim()):
        profile = change.sum(dim=[other for other in range(change.dim()) if other != axis])
        places = torch.linspace(0, 1, len(profile))
        found.append(float((profile * places).sum() / profile.sum().clamp(min=1e-12)))
    return found
