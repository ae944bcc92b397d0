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

from ..core.mapped_arrays import value_range  # noqa: E402
from ..errors import ExportError, first_line  # noqa: E402
from ..images import ImageFormat, Resizing, decode_image, to_pixels  # noqa: E402
from ..trust.json_file import read_json  # noqa: E402
from .model_config import DynamicExitModelConfig  # noqa: E402

if TYPE_CHECKING:
    import torch

_RESAMPLING = {"nearest": 0, "bilinear": 2, "bicubic": 3}


class DynamicExitImageProcessor(ViTImageProcessor):
    """Decodes Pillow images as recipes do: upright, with 8 bits, in the model's channels.

    Pipelines of transformers convert all images to RGB, which is undone for models of one channel.

    Attributes:
        image_resizing: A `Resizing` as JSON, by which Pillow images are resized as those were that the model was tuned
            on; None leaves that to transformers.
    """

    image_resizing: dict[str, Any] | None = None

    def process_image(
        self, image: Any, do_convert_rgb: bool | None = None, *args: Any, **kwargs: Any
    ) -> "torch.Tensor":
        """Convert a Pillow image to a tensor (C, H, W) of three channels or one; arrays and tensors pass unchanged."""
        if isinstance(image, Image.Image):
            resizing = None if self.image_resizing is None else Resizing.from_json(self.image_resizing)
            pixels = to_pixels(decode_image(image), ImageFormat(3 if do_convert_rgb else 1, resizing))
            image = Image.fromarray(pixels.transpose(1, 2, 0) if do_convert_rgb else pixels[0])
            do_convert_rgb = False  # it would fill transparent areas with white, unlike recipes
        return super().process_image(image, do_convert_rgb, *args, **kwargs)


# key of the configuration: the attribute of `DynamicExitImageProcessor`
_RESIZING = "image_resizing"
_CLASSES: dict[str, type] = {"torchvision": DynamicExitImageProcessor, "pil": DynamicExitImageProcessor}
AutoImageProcessor.register(DynamicExitModelConfig, image_processor_classes=_CLASSES, exist_ok=True)


def write_image_processor(
    folder: Path, samples: np.ndarray, interpolation: str | None, image_format: ImageFormat | None = None
) -> bool:
    """Write ``preprocessor_config.json`` if the samples are images with pixels in 0..255 or 0..1.

    Normalization is part of the model; the processor resizes, and divides by 255 if the samples are in 0..1.

    Args:
        folder: The folder.
        samples: (N, C, H, W) as the model takes them.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``; None is bilinear.
        image_format: Of samples that were decoded from image files; the processor then decodes images the same way.

    Returns:
        Whether it was written; not for other shapes, numbers of channels or ranges.
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3):
        return False
    low, high = value_range(samples)
    if low < 0 or high > 255:
        return False
    resizing = image_format.resizing if image_format else None
    channels, height, width = samples.shape[1:]
    processor = (DynamicExitImageProcessor if channels == 1 or image_format else ViTImageProcessor)(
        do_resize=True,
        size={"height": height, "width": width},
        resample=_RESAMPLING[interpolation or "bilinear"],
        do_rescale=samples.dtype.kind == "f" and high <= 1,
        rescale_factor=1 / 255,
        do_normalize=False,
        do_convert_rgb=channels == 3,
    )
    if resizing is not None:
        setattr(processor, _RESIZING, resizing.to_json())
    processor.save_pretrained(folder)
    return True


def read_resizing(folder: Path) -> Resizing | None:
    """Return how a written folder resizes images; None if all were of one size.

    Raises:
        ExportError: The file breaks the format.
    """
    path = folder / "preprocessor_config.json"
    try:
        given = read_json(path).get(_RESIZING) if path.is_file() else None
        return None if given is None else Resizing.from_json(given)
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ExportError(f"'{path}' cannot be read: {first_line(error)}; export the folder anew") from error
