"""Resizing and normalization inside the graph of a model."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError, nearest

#: Names of the ways to resize.
INTERPOLATIONS = ("bilinear", "nearest", "bicubic")


class Preprocessing(nn.Module):
    """The preprocessing of one model, as part of its graph.

    The stages of a chain may expect different input sizes and statistics, while the caller passes one image. The order
    is: cast to floating point, resize, ``x * scale``, ``(x - mean) / std``. Steps that are not requested are left out
    of the graph; with none requested, the input is passed on unchanged.

    Args:
        size: ``(height, width)`` in pixels to resize to, or None. Inputs of that size are not resized.
        interpolation: ``bilinear``, ``nearest`` or ``bicubic``.
        scale: Factor applied before mean and std, such as ``1 / 255`` for integer images.
        mean: Mean per channel (C values, or one for all) on the scaled range, or None.
        std: Standard deviation per channel, all positive, or None.

    Raises:
        ModelError: A value is out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        size: tuple[int, int] | None = None,
        interpolation: str = "bilinear",
        scale: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise ModelError(f"interpolation '{interpolation}' is not known; {nearest(interpolation, INTERPOLATIONS)}")
        if size is not None and (len(size) != 2 or any(int(side) != side or side < 1 for side in size)):
            raise ModelError(f"size must be (height, width) in whole positive pixels; got {tuple(size)}")
        if std is not None and any(not value > 0 for value in std):
            raise ModelError(f"every std must be positive; got {list(std)}")
        if mean is not None and std is not None and len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ModelError(f"mean has {len(mean)} values and std {len(std)}; give one per channel in both")
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.interpolation = interpolation
        self.scale = float(scale)
        # their dtype is the working dtype, also after .half() or .to(dtype)
        self.register_buffer("mean", self._per_channel(mean, 0.0), persistent=False)
        self.register_buffer("std", self._per_channel(std, 1.0), persistent=False)
        self.normalizes = mean is not None or std is not None
        self.active = self.normalizes or size is not None or self.scale != 1.0
        self.training = False

    @staticmethod
    def _per_channel(values: Sequence[float] | None, default: float) -> Tensor:
        return torch.tensor([default] if values is None else list(values), dtype=torch.float32).view(1, -1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Preprocess a batch.

        Args:
            images: (N, C, H, W), floating or integer.

        Returns:
            (N, C, height, width) floating; the input itself if it is floating and no step was requested.
        """
        if not images.is_floating_point() and (self.active or images.dim() == 4):
            images = images.to(self.mean.dtype)
        if not self.active:
            return images
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            align = None if self.interpolation == "nearest" else False
            images = F.interpolate(images, size=self.size, mode=self.interpolation, align_corners=align)
        if self.scale != 1.0:
            images = images * self.scale
        if self.normalizes:
            images = (images - self.mean) / self.std
        return images

    def extra_repr(self) -> str:
        """Describe the steps, for ``print(model)``."""
        return f"size={self.size}, interpolation={self.interpolation}, scale={self.scale}, normalizes={self.normalizes}"
