"""What transformers' pipelines must do to an image so that the written file gets what it was made for."""

from pathlib import Path

import numpy as np
from transformers import ViTImageProcessor

_RESAMPLING = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def write_image_processor(folder: Path, samples: np.ndarray, interpolation: str | None) -> bool:
    """Write ``preprocessor_config.json``, if the samples are images of pixels or of pixels over 255.

    Statistics are inside the file; the processor resizes, and where the samples lie in 0..1 it divides by 255.

    Args:
        folder: Where to.
        samples: (N, C, H, W) as the file takes them, of one or three channels.
        interpolation: How to resize: ``bilinear``, ``bicubic`` or ``nearest``; None is bilinear.

    Returns:
        Whether it was written; not where values below 0 or above 255 show that they are no pixels.
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3) or samples.min() < 0 or samples.max() > 255:
        return False
    height, width = samples.shape[2:]
    processor = ViTImageProcessor(
        do_resize=True,
        size={"height": height, "width": width},
        resample=_RESAMPLING[interpolation or "bilinear"],
        do_rescale=samples.dtype.kind == "f" and bool(samples.max() <= 1),
        rescale_factor=1 / 255,
        do_normalize=False,
        do_convert_rgb=samples.shape[1] == 3,
    )
    processor.save_pretrained(folder)
    return True
