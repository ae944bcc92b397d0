"""The preprocessing inside a model's graph: as the recipe says, else as the model was trained with."""

from torch import nn

from ...graph import Preprocessing
from ...passes import ModelSource
from .base import NativePreprocessing, find_builder


def make_preprocessing(source: ModelSource, model: nn.Module, from_bytes: bool = False) -> Preprocessing:
    """Make a model's preprocessing.

    Args:
        source: The stanza. With `from_model`, values that it leaves open come from the model: timm's pretrained
            configuration, the image processor of transformers, or the input size of an ONNX file.
        model: The user's module.
        from_bytes: Whether pixels are in 0..255, which `from_model` scales to the range of the model's statistics; else
            they are in 0..1.

    Raises:
        ModelError: The model does not state its preprocessing.
    """
    stanza = source.preprocessing
    native: NativePreprocessing = {}
    scale = None
    if stanza.from_model:
        native = find_builder(source).read_preprocessing(model)
        factor = native.get("factor")
        if factor is not None:
            scale = factor if from_bytes else factor * 255
    if stanza.scale is not None:
        scale = stanza.scale
    return Preprocessing(
        size=native.get("size") if stanza.size is None else stanza.size,
        interpolation=stanza.interpolation or native.get("interpolation") or "bilinear",
        scale=1.0 if scale is None else scale,
        mean=native.get("mean") if stanza.mean is None else stanza.mean,
        std=native.get("std") if stanza.std is None else stanza.std,
    )
