"""Models of Hugging Face transformers, by name on the hub or by folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ...errors import DataError, ModelError, first_line
from ...graph import check_configuration
from ...passes import ModelKind, ModelSource
from .base import BuiltModel, ModelBuilder, NativePreprocessing, read_class_names
from .files import match_paths
from .origin import Origin, read_origin

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Pillow's numbers of filters, which image processors use, too
_INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
# side in pixels from which on processors with a `crop_pct` only resize
_LARGEST_CROPPED = 384


class TransformersBuilder(ModelBuilder[ModelSource]):
    """Loads models of transformers with their weights."""

    knows_untrained = True

    def build(self) -> BuiltModel:
        """Load the model with the `AutoModelFor...` class of its task."""
        import transformers

        name = self.source.name
        if Path(name).is_absolute() and not Path(name).is_dir():
            raise ModelError(f"model folder '{name}' does not exist; check the path")
        try:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=self._trusted)
            load = getattr(transformers, _auto_class(config)).from_pretrained
            model, info = load(name, **{**self.source.arguments, "output_loading_info": True})
        except Exception as error:  # the hub, the disk and the constructor all raise classes of their own
            raise ModelError(f"transformers model '{name}' cannot be loaded: {first_line(error)}") from error
        untrained = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
        return BuiltModel(model, tuple(sorted(untrained)), str(model.main_input_name))

    @property
    def _trusted(self) -> bool:
        """Whether the recipe lets code of the hub run; transformers would ask on a terminal."""
        return bool(self.source.arguments.get("trust_remote_code", False))

    def check(self) -> None:
        """Refuse a configuration for multi-label classification or regression."""
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.source.name, trust_remote_code=self._trusted)
        except Exception:  # loading the model reports it
            return
        for key in ("num_labels", "problem_type"):
            if key in self.source.arguments:
                setattr(config, key, self.source.arguments[key])
        check_configuration(config, f"model '{self.source.name}'")

    def read_preprocessing(self, model: nn.Module) -> NativePreprocessing:
        """Return the preprocessing of the model's image processor."""
        from transformers.models.auto.image_processing_auto import get_image_processor_config

        name = self.source.name
        try:
            config = get_image_processor_config(name)
        except Exception as error:  # the hub and the disk raise classes of their own
            raise ModelError(f"the image processor of '{name}' cannot be read: {first_line(error)}") from error
        size = _read_size(config)
        if size is None:
            return super().read_preprocessing(model)
        normalizes, rescales = config.get("do_normalize", True), config.get("do_rescale", True)
        mean = config.get("image_mean") if normalizes else None
        if rescales and config.get("rescale_offset"):  # such processors subtract 1 after scaling
            mean = [value + 1 for value in mean or [0.0]]
        return {
            "size": size,
            "resized": _read_resized(config, size),
            "interpolation": _INTERPOLATIONS.get(config.get("resample", -1)),
            "mean": mean,
            "std": config.get("image_std") if normalizes else None,
            "factor": config.get("rescale_factor", 1 / 255) if rescales else None,
        }

    def find_matches(self) -> tuple[list[str], str]:
        """List the folders that match the pattern."""
        return match_paths(self.source.name, Path.is_dir)

    def find_class_names(self, model: nn.Module | None) -> list[str] | None:
        """Return the class names of the model's configuration.

        Raises:
            DataError: It cannot be read.
        """
        if model is not None:
            return super().find_class_names(model)
        from transformers import AutoConfig

        name = self.source.name
        try:
            return read_class_names(AutoConfig.from_pretrained(name, trust_remote_code=self._trusted))
        except Exception as error:  # the hub and the disk raise classes of their own
            raise DataError(f"the classes of model '{name}' cannot be read: {first_line(error)}") from error

    def find_tokenizer(self) -> str | None:
        """Return the model's name, as the tokenizer stands beside it."""
        return self.source.name

    def find_origin(self) -> Origin:
        """Return the name on the hub, and the licence that the model's card states."""
        return read_origin(self.source.name)


KIND = ModelKind(ModelSource, TransformersBuilder)


def _read_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    size = (config.get("do_center_crop") and config.get("crop_size")) or config.get("size")
    if not size:
        return None
    if isinstance(size, Mapping):
        side = size.get("shortest_edge")
        size = (size.get("height", side), size.get("width", side))
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _read_resized(config: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int] | int | None:
    """Return what images are resized to before their middle is cut out."""
    given = config.get("size")
    edge = given.get("shortest_edge") if isinstance(given, Mapping) else None
    if edge and "crop_pct" in config:  # ConvNeXt's processors crop smaller images alone
        return int(edge / config["crop_pct"]) if edge < _LARGEST_CROPPED else None
    if edge:
        return int(edge)
    if config.get("do_center_crop") and isinstance(given, Mapping) and "height" in given:
        return given["height"], given["width"]
    return None


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
