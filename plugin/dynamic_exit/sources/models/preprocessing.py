"""What a model does to the common input: as the recipe says, or as the model was made for."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...errors import ModelError, first_line
from ...graph import Preprocessing
from ...passes import ModelSource

# as Pillow numbers them, and Hugging Face's processors with it
_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def preprocessing_of(source: ModelSource, model: nn.Module, from_bytes: bool = False) -> Preprocessing:
    """Make a model's preprocessing.

    Args:
        source: The stanza; with ``from_model`` what it leaves open is taken from the model: a timm model's
            pretrained configuration, a Hugging Face model's image processor, an ONNX file's fixed input size.
        model: The user's module.
        from_bytes: Whether images come as bytes, which ``from_model`` brings into the range of the model's statistics;
            else they come in 0..1.

    Returns:
        The steps. Mean and std are on the scaled range.

    Raises:
        ModelError: The model does not say what it was made for.
    """
    values = source.preprocessing.model_dump(exclude={"from_model"})
    if source.preprocessing.from_model:
        own = {"timm": _timm, "transformers": _transformers, "onnx": _onnx}.get(source.source, _python)(source, model)
        factor = own.pop("factor", None)
        if factor is not None:
            own["scale"] = factor if from_bytes else factor * 255
        values |= {key: value for key, value in own.items() if values[key] is None}
    values["interpolation"] = values["interpolation"] or "bilinear"
    values["scale"] = 1.0 if values["scale"] is None else values["scale"]
    return Preprocessing(**values)


def _timm(source: ModelSource, model: nn.Module) -> dict[str, Any]:
    made_for: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if "input_size" not in made_for:
        raise _unsaid(source)
    return {
        "size": tuple(made_for["input_size"][1:]),
        "interpolation": made_for.get("interpolation"),
        "mean": made_for.get("mean"),
        "std": made_for.get("std"),
        "factor": 1 / 255,
    }


def _transformers(source: ModelSource, model: nn.Module) -> dict[str, Any]:
    from transformers.models.auto.image_processing_auto import get_image_processor_config

    try:
        made_for = get_image_processor_config(source.name)
    except Exception as error:  # the hub and the disk raise classes of their own
        raise ModelError(f"the image processor of '{source.name}' cannot be read: {first_line(error)}") from error
    size = (made_for.get("do_center_crop") and made_for.get("crop_size")) or made_for.get("size")
    if not size:
        raise _unsaid(source)
    if isinstance(size, Mapping):
        side = size.get("shortest_edge")
        size = (size.get("height", side), size.get("width", side))
    normalizes, rescales = made_for.get("do_normalize", True), made_for.get("do_rescale", True)
    mean = made_for.get("image_mean") if normalizes else None
    if rescales and made_for.get("rescale_offset"):  # 1 is subtracted behind the factor
        mean = [value + 1 for value in mean or [0.0]]
    return {
        "size": (size, size) if isinstance(size, int) else tuple(size),
        "interpolation": _RESAMPLING.get(made_for.get("resample")),
        "mean": mean,
        "std": made_for.get("image_std") if normalizes else None,
        "factor": made_for.get("rescale_factor", 1 / 255) if rescales else None,
    }


def _onnx(source: ModelSource, model: nn.Module) -> dict[str, Any]:
    if model.image_size is None:
        raise _unsaid(source)
    return {"size": model.image_size}


def _python(source: ModelSource, model: nn.Module) -> dict[str, Any]:
    raise _unsaid(source)


def _unsaid(source: ModelSource) -> ModelError:
    return ModelError(f"model '{source.name}' does not say what input it was made for; write its `preprocessing`")
