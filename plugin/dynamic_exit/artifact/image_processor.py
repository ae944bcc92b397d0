"""The image processor of a written folder: it prepares images for the model as the recipe did."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

_torch = logging.getLogger("torch.utils._pytree")
_level = _torch.level
_torch.setLevel(logging.ERROR)  # importing image processors imports quantizers, which log deprecations
try:
    from transformers import AutoImageProcessor, ViTImageProcessor
finally:
    _torch.setLevel(_level)

from ..core.images import decode_image  # noqa: E402
from .model_config import DynamicExitModelConfig  # noqa: E402

if TYPE_CHECKING:
    import torch

_RESAMPLING = {"nearest": 0, "bilinear": 2, "bicubic": 3}


class DynamicExitImageProcessor(ViTImageProcessor):
    """Decodes Pillow images as recipes do: upright, with 8 bits, in the model's channels.

    Pipelines of transformers convert all images to RGB, which is undone for models of one channel.
    """

    def process_image(
        self, image: Any, do_convert_rgb: bool | None = None, *args: Any, **kwargs: Any
    ) -> "torch.Tensor":
        """Convert a Pillow image to a tensor (C, H, W) of three channels or one; arrays and tensors pass unchanged."""
        if isinstance(image, Image.Image):
            image = decode_image(image).image.convert("RGB" if do_convert_rgb else "L")
            do_convert_rgb = False  # it would fill transparent areas with white, unlike recipes
        return super().process_image(image, do_convert_rgb, *args, **kwargs)


_CLASSES: dict[str, type] = {"torchvision": DynamicExitImageProcessor, "pil": DynamicExitImageProcessor}
AutoImageProcessor.register(DynamicExitModelConfig, image_processor_classes=_CLASSES, exist_ok=True)


def write_image_processor(
    folder: Path, samples: np.ndarray, interpolation: str | None, image_files: bool = False
) -> bool:
    """Write ``preprocessor_config.json`` if the samples are images with pixels in 0..255 or 0..1.

    Normalization is part of the model; the processor resizes, and divides by 255 if the samples are in 0..1.

    Args:
        folder: The folder.
        samples: (N, C, H, W) as the model takes them.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``; None is bilinear.
        image_files: Whether the samples were read from image files; the processor then decodes images the same way.

    Returns:
        Whether it was written; not for other shapes, numbers of channels or ranges.
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3) or samples.min() < 0 or samples.max() > 255:
        return False
    channels, height, width = samples.shape[1:]
    processor = (DynamicExitImageProcessor if channels == 1 or image_files else ViTImageProcessor)(
        do_resize=True,
        size={"height": height, "width": width},
        resample=_RESAMPLING[interpolation or "bilinear"],
        do_rescale=samples.dtype.kind == "f" and bool(samples.max() <= 1),
        rescale_factor=1 / 255,
        do_normalize=False,
        do_convert_rgb=channels == 3,
    )
    processor.save_pretrained(folder)
    return True
