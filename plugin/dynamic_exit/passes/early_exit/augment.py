"""Random views of images: what a backbone has memorised looks unlike what it meets later."""

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import PassError

#: Pixels that an image is moved by at most, in both directions.
SHIFT = 4


class FlipCrop:
    """Mirrors half of the images and moves all by up to 4 pixels; what comes in from outside is 0.

    What happens to a sample follows from the seed, its index and the number of its view alone, so that a view is the
    same in whatever batch it is computed.

    Args:
        samples: Number of samples N.
        seed: Decides flips and moves.
    """

    def __init__(self, samples: int, seed: int):
        self.samples, self.seed = samples, seed
        self._view = -1
        self._flips = self._moves = torch.empty(0)

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
            raise PassError(
                f"`augment: flip_crop` needs images (N, C, H, W); got inputs {tuple(images.shape)}, so set it to none"
            )
        if view != self._view:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + view)
            self._flips = torch.rand(self.samples, generator=generator) < 0.5
            self._moves = torch.randint(0, 2 * SHIFT + 1, (2, self.samples), generator=generator)
            self._view = view
        height, width = images.shape[2:]
        down, right = self._moves[:, rows]
        lines = down[:, None] + torch.arange(height)
        columns = torch.arange(width).expand(len(rows), width)
        columns = torch.where(self._flips[rows, None], columns.flip(1), columns) + right[:, None]
        padded = functional.pad(images, (SHIFT,) * 4)
        sample = torch.arange(len(rows))[:, None, None, None]
        channel = torch.arange(images.shape[1])[None, :, None, None]
        return padded[sample, channel, lines[:, None, :, None], columns[:, None, None, :]]
