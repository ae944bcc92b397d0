"""Random views of images: what a backbone has memorised looks unlike what it meets later."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import PassError

#: Pixels that `flip_crop` moves an image by at most, in both directions.
SHIFT = 4
#: What `affine` turns (radians), scales and moves (share of half the width) an image by at most.
ANGLE, SCALE, MOVE = math.radians(15), 0.15, 0.1


class Augment(ABC):
    """Makes views of images.

    What happens to a sample follows from the seed, its index and the number of its view alone, so that a view is the
    same in whatever batch it is computed.

    Args:
        samples: Number of samples N.
        seed: Decides what is drawn.
    """

    #: Numbers that a view of one sample is made of.
    drawn = 0

    def __init__(self, samples: int, seed: int):
        self.samples, self.seed = samples, seed
        self._view, self._numbers = -1, torch.empty(0)

    def __call__(self, images: Tensor, rows: Tensor, view: int) -> Tensor:
        """Return one view of images.

        Args:
            images: (B, C, H, W), of any type.
            rows: int64 (B,), which of the N samples they are.
            view: Number of the view, from 0.

        Returns:
            (B, C, H, W) of the same type.

        Raises:
            PassError: The inputs are no images.
        """
        if images.dim() != 4:
            raise PassError(f"`augment` needs images (N, C, H, W); got inputs {tuple(images.shape)}, so set it to none")
        if view != self._view:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + view)
            self._numbers, self._view = torch.rand(self.drawn, self.samples, generator=generator), view
        return self.view(images, self._numbers[:, rows])

    @abstractmethod
    def view(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Make views of images (B, C, H, W) out of random numbers (drawn, B) in 0..1."""


class FlipCrop(Augment):
    """Mirrors half of the images and moves all by up to 4 pixels; what comes in from outside is 0."""

    drawn = 3

    def view(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Make views of images (B, C, H, W) out of random numbers (3, B) in 0..1."""
        count, channels, height, width = images.shape
        down, right = (numbers[:2] * (2 * SHIFT + 1)).long()
        lines = down[:, None] + torch.arange(height)
        columns = torch.arange(width).expand(count, width)
        columns = torch.where(numbers[2, :, None] < 0.5, columns.flip(1), columns) + right[:, None]
        padded = functional.pad(images, (SHIFT,) * 4)
        sample, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[None, :, None, None]
        return padded[sample, channel, lines[:, None, :, None], columns[:, None, None, :]]


class Affine(Augment):
    """Mirrors half of the images; turns, scales and moves all a little, mirrored at the border.

    A backbone that was trained with flips and crops knows those views by heart; these it does not.
    """

    drawn = 5

    def view(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Make views of images (B, C, H, W) out of random numbers (5, B) in 0..1."""
        angle, scale, down, right = 2 * numbers[:4] - 1
        angle, scale = angle * ANGLE, 1 + scale * SCALE
        mirror = torch.where(numbers[4] < 0.5, -1.0, 1.0)
        cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
        ratio = images.shape[2] / images.shape[3]  # coordinates run from -1 to 1 along both sides
        lines = [
            torch.stack([mirror * cosine, -sine * ratio, right * MOVE], dim=1),
            torch.stack([mirror * sine / ratio, cosine, down * MOVE], dim=1),
        ]
        grid = functional.affine_grid(torch.stack(lines, dim=1), list(images.shape), align_corners=False)
        views = functional.grid_sample(images.float(), grid, "bilinear", "reflection", align_corners=False)
        return views.to(images.dtype) if images.is_floating_point() else views.round().to(images.dtype)


_KINDS: dict[str, type[Augment]] = {"flip_crop": FlipCrop, "affine": Affine}


def make_augment(name: str, samples: int, seed: int) -> Augment | None:
    """Return what makes views of samples.

    Args:
        name: As a recipe gives it: ``none``, ``flip_crop`` or ``affine``.
        samples: Number of samples N.
        seed: Decides what is drawn.

    Returns:
        The augmentation, or None for ``none``.
    """
    return None if name == "none" else _KINDS[name](samples, seed)
