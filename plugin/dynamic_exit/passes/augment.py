"""Augmentation: random views of training samples, so that a backbone does not see what it has memorized."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ..core.code_fingerprint import CodeFingerprint
from ..core.hashing import digest
from ..core.user_code import load_function
from ..errors import PassError, first_line
from .choices import NO_AUGMENT

#: Maximum shift of `flip_crop` in pixels, in both directions.
SHIFT = 4
#: Maximum rotation (radians), scaling (share) and shift (share of half the width) of `affine`.
ANGLE, SCALE, MOVE = math.radians(15), 0.15, 0.1


class Augment(ABC):
    """Computes views of images.

    A view depends only on the seed, the index of the sample and the number of the view, whatever batch it is computed
    in.

    Args:
        samples: Number of samples N.
        seed: Of the random numbers.
    """

    #: Random numbers per view of one sample.
    drawn = 0
    #: Digest of the code of an augmentation from outside this package.
    made_of = ""

    def __init__(self, samples: int, seed: int):
        self.samples, self.seed = samples, seed
        self._view, self._numbers = -1, torch.empty(0)

    def __call__(self, images: Tensor, rows: Tensor, view: int) -> Tensor:
        """Return one view of images.

        Args:
            images: (B, C, H, W) of any dtype.
            rows: int64 (B,), their indices among the N samples.
            view: Number of the view, from 0.

        Returns:
            (B, C, H, W) of the same dtype.

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
        """Compute views of images (B, C, H, W) from random numbers (drawn, B) in 0..1."""


class FlipCrop(Augment):
    """Flips half of the images horizontally and shifts all by up to 4 pixels, padded with 0."""

    drawn = 3

    def view(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Compute views of images (B, C, H, W) from random numbers (3, B) in 0..1."""
        count, channels, height, width = images.shape
        down, right = (numbers[:2] * (2 * SHIFT + 1)).long()
        lines = down[:, None] + torch.arange(height)
        columns = torch.arange(width).expand(count, width)
        columns = torch.where(numbers[2, :, None] < 0.5, columns.flip(1), columns) + right[:, None]
        padded = functional.pad(images, (SHIFT,) * 4)
        sample, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[None, :, None, None]
        return padded[sample, channel, lines[:, None, :, None], columns[:, None, None, :]]


class Affine(Augment):
    """Flips half of the images horizontally; rotates, scales and shifts all a little, with reflection padding.

    A backbone that was trained with flips and crops may have memorized those views, but not these.
    """

    drawn = 5

    def view(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Compute views of images (B, C, H, W) from random numbers (5, B) in 0..1."""
        angle, scale, down, right = 2 * numbers[:4] - 1
        angle, scale = angle * ANGLE, 1 + scale * SCALE
        mirror = torch.where(numbers[4] < 0.5, -1.0, 1.0)
        cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
        ratio = images.shape[2] / images.shape[3]  # coordinates are -1..1 along both sides
        lines = [
            torch.stack([mirror * cosine, -sine * ratio, right * MOVE], dim=1),
            torch.stack([mirror * sine / ratio, cosine, down * MOVE], dim=1),
        ]
        grid = functional.affine_grid(torch.stack(lines, dim=1), list(images.shape), align_corners=False)
        views = functional.grid_sample(images.float(), grid, "bilinear", "reflection", align_corners=False)
        return views.to(images.dtype) if images.is_floating_point() else views.round().to(images.dtype)


class UserAugment:
    """Computes views by a function of the user, one sample at a time.

    Args:
        name: ``file.py:function`` or ``package.module:function``: from a sample, a tensor without batch, and a
            `torch.Generator` to a tensor of the same shape and dtype.
        samples: Number of samples N.
        seed: Together with the index of a sample and the number of its view, the seed of the generator.
    """

    def __init__(self, name: str, samples: int, seed: int):
        self.name, self.samples, self.seed = name, samples, seed
        self.function: Callable[[Tensor, torch.Generator], Tensor] = load_function(name)
        code = CodeFingerprint()
        self.made_of = digest(code.value(self.function), code.sum())

    def __call__(self, inputs: Tensor, rows: Tensor, view: int) -> Tensor:
        """Return one view of samples (B, ...); arguments as for `Augment`.

        Raises:
            PassError: The function raises, or returns another shape or dtype.
        """
        views, generator = [], torch.Generator()
        for sample, row in zip(inputs, rows.tolist(), strict=True):
            generator.manual_seed((self.seed * 1_000_003 + view) * self.samples + row)
            try:
                made = self.function(sample.clone(), generator)
            except Exception as error:  # user code may raise anything
                raise PassError(f"`augment` '{self.name}' fails on sample {row}: {first_line(error)}") from error
            if not isinstance(made, Tensor) or (made.shape, made.dtype) != (sample.shape, sample.dtype):
                said = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
                expected = f"{sample.dtype} {list(sample.shape)}"
                raise PassError(f"`augment` '{self.name}' must return a tensor like the sample, {expected}; got {said}")
            views.append(made)
        return torch.stack(views)


_KINDS: dict[str, type[Augment]] = {"flip_crop": FlipCrop, "affine": Affine}


def make_augment(name: str, samples: int, seed: int) -> Augment | UserAugment | None:
    """Return the augmentation of a name.

    Args:
        name: As in a recipe: ``none``, ``flip_crop``, ``affine`` or ``file.py:function``.
        samples: Number of samples N.
        seed: Of the random numbers.

    Returns:
        The augmentation, or None for ``none``.

    Raises:
        RecipeError: There is no such function.
    """
    if name == NO_AUGMENT:
        return None
    return _KINDS[name](samples, seed) if name in _KINDS else UserAugment(name, samples, seed)
