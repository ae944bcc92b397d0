"""The form in which a model takes images: its channels, and how images of other sizes are resized."""

import torch
from torch import nn

from ...errors import ModelError
from ...graph import Classifier
from ...images import ImageFormat, Resizing
from ...passes import ModelSource
from .base import NativePreprocessing, find_builder


def find_image_format(source: ModelSource, classifier: Classifier, size: tuple[int, int] | None) -> ImageFormat:
    """Find the form in which a model takes images.

    Args:
        source: The stanza.
        classifier: The model that was made of it.
        size: Height and width of all images; None if they differ, so that they must be resized.

    Returns:
        The form; its `resizing` is None if all images have one size, or if the model states none.
    """
    resizing = None if size is not None else _find_resizing(source, classifier.model)
    shape = size if resizing is None else resizing.size
    return ImageFormat() if shape is None else ImageFormat(_count_channels(classifier, shape), resizing)


def _find_resizing(source: ModelSource, model: nn.Module) -> Resizing | None:
    """Return how images are resized: as `preprocessing` says, else as those that the model was trained on."""
    native: NativePreprocessing = {}
    try:
        native = find_builder(source).read_preprocessing(model)
    except ModelError:
        if source.preprocessing.size is None:
            return None
    interpolation = source.preprocessing.interpolation or native.get("interpolation") or "bilinear"
    if source.preprocessing.size is not None:
        height, width = source.preprocessing.size
        return Resizing((height, width), (height, width), interpolation)
    size = native.get("size")
    return None if size is None else Resizing(size, native.get("resized") or size, interpolation)


@torch.no_grad()
def _count_channels(classifier: Classifier, size: tuple[int, int]) -> int:
    """Return 1 if the model takes images of one channel, but none of three."""
    for channels in (3, 1):
        try:
            classifier(torch.zeros(2, channels, *size, dtype=torch.uint8))
        except Exception:  # models refuse images in many ways; what all of them raise is told later
            continue
        return channels
    return 3
