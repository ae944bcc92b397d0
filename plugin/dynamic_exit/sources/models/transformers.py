"""Models of Hugging Face transformers, by name on the hub or by folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ...errors import ModelError, first_line
from ...graph import check_configuration
from ...passes import ModelSource
from .base import BuiltModel, ModelBuilder, NativePreprocessing, unknown_preprocessing
from .files import match_paths

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Pillow's numbers of filters, which image processors use, too
_INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}


class TransformersBuilder(ModelBuilder):
    """Loads models of transformers with their weights."""

    def build(self, source: ModelSource) -> BuiltModel:
        """Load a model with the `AutoModelFor...` class of its task."""
        import transformers

        if Path(source.name).is_absolute() and not Path(source.name).is_dir():
            raise ModelError(f"model folder '{source.name}' does not exist; check the path")
        try:
            config = transformers.AutoConfig.from_pretrained(source.name)
            load = getattr(transformers, _auto_class(config)).from_pretrained
            model, info = load(source.name, **{**source.arguments, "output_loading_info": True})
        except Exception as error:  # the hub, the disk and the constructor all raise classes of their own
            raise ModelError(f"transformers model '{source.name}' cannot be loaded: {first_line(error)}") from error
        return BuiltModel(model, tuple(sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})))

    def read_preprocessing(self, source: ModelSource, model: nn.Module) -> NativePreprocessing:
        """Return the preprocessing of the model's image processor."""
        from transformers.models.auto.image_processing_auto import get_image_processor_config

        try:
            config = get_image_processor_config(source.name)
        except Exception as error:  # the hub and the disk raise classes of their own
            raise ModelError(f"the image processor of '{source.name}' cannot be read: {first_line(error)}") from error
        size = _read_size(config)
        if size is None:
            raise unknown_preprocessing(source)
        normalizes, rescales = config.get("do_normalize", True), config.get("do_rescale", True)
        mean = config.get("image_mean") if normalizes else None
        if rescales and config.get("rescale_offset"):  # such processors subtract 1 after scaling
            mean = [value + 1 for value in mean or [0.0]]
        return {
            "size": size,
            "interpolation": _INTERPOLATIONS.get(config.get("resample", -1)),
            "mean": mean,
            "std": config.get("image_std") if normalizes else None,
            "factor": config.get("rescale_factor", 1 / 255) if rescales else None,
        }

    def find_matches(self, source: ModelSource) -> tuple[list[str], str]:
        """List the folders that match a pattern."""
        return match_paths(source.name, Path.is_dir)


def _read_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    size = (config.get("do_center_crop") and config.get("crop_size")) or config.get("size")
    if not size:
        return None
    if isinstance(size, Mapping):
        side = size.get("shortest_edge")
        size = (size.get("height", side), size.get("width", side))
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def check_model_config(source: ModelSource) -> None:
    """Refuse a backbone of transformers that is not a classifier, before any data are read.

    Raises:
        ModelError: Its configuration is for multi-label classification or regression.
    """
    if source.source != "transformers":
        return
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.name)
    except Exception:  # loading the model reports it
        return
    for key in ("num_labels", "problem_type"):
        if key in source.arguments:
            setattr(config, key, source.arguments[key])
    check_configuration(config, f"model '{source.name}'")


def _auto_class(config: "PretrainedConfig") -> str:
    """Return the auto class for a model: that of the saved architecture, else the first that its family supports."""
    from transformers.models.auto import modeling_auto

    families: dict[str, Mapping[str, object]] = {
        "ImageClassification": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        "SequenceClassification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    }
    saved = " ".join(config.architectures or ())
    fitting = [task for task in families if f"For{task}" in saved]
    fitting += [task for task, family in families.items() if config.model_type in family]
    return f"AutoModelFor{(fitting or list(families))[0]}"
