"""What transformers' pipelines must do to an image so that the written file gets what it was made for."""

import logging
from pathlib import Path

import numpy as np
from PIL import Image

_torch = logging.getLogger("torch.utils._pytree")
_level = _torch.level
_torch.setLevel(logging.ERROR)  # image processors bring quantizers that speak of their own deprecations
try:
    from transformers import AutoImageProcessor, ViTImageProcessor
finally:
    _torch.setLevel(_level)

from ..sources.data.images import decode_image  # noqa: E402
from .model_config import DynamicExitModelConfig  # noqa: E402

_RESAMPLING = {"nearest": 0, "bilinear": 2, "bicubic": 3}


class DynamicExitImageProcessor(ViTImageProcessor):
    """Takes Pillow images as a recipe reads them: upright, in 8 bits, in the model's channels.

    transformers' pipelines turn every image into colours, which this takes back for models of one channel.
    """

    def process_image(self, image, do_convert_rgb=None, **kwargs):
        """Make a tensor (C, H, W) of a Pillow image, of three channels or one; arrays and tensors stay as they are."""
        if isinstance(image, Image.Image):
            image = decode_image(image).image.convert("RGB" if do_convert_rgb else "L")
            do_convert_rgb = False  # it would fill transparent places with white, which reading for a recipe does not
        return super().process_image(image, do_convert_rgb=do_convert_rgb, **kwargs)


_CLASSES = {"torchvision": DynamicExitImageProcessor, "pil": DynamicExitImageProcessor}
AutoImageProcessor.register(DynamicExitModelConfig, image_processor_classes=_CLASSES, exist_ok=True)


def write_image_processor(
    folder: Path, samples: np.ndarray, interpolation: str | None, image_files: bool = False
) -> bool:
    """Write ``preprocessor_config.json``, if the samples are images of pixels or of pixels over 255.

    Statistics are inside the file; the processor resizes, and where the samples lie in 0..1 it divides by 255.

    Args:
        folder: Where to.
        samples: (N, C, H, W) as the file takes them, of one or three channels.
        interpolation: How to resize: ``bilinear``, ``bicubic`` or ``nearest``; None is bilinear.
        image_files: Whether the samples were read from image files; the processor then decodes images the same way.

    Returns:
        Whether it was written; not where values below 0 or above 255 show that they are no pixels.
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
