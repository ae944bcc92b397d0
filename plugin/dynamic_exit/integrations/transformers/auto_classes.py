"""Registers dynamic models with the auto classes of transformers; the classes themselves are imported at their use."""

import importlib
from importlib.util import find_spec
from typing import Any, NoReturn

from ...errors import ExportError

_MODELS = {
    "AutoModelForImageClassification": "DynamicExitModelForImageClassification",
    "AutoModelForSequenceClassification": "DynamicExitModelForSequenceClassification",
}


class _Deferred:
    """Stands for a class of `modeling` under its name; importing that takes onnxruntime and Optimum."""

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        """Load a model with the class that this one stands for."""
        modeling = importlib.import_module("dynamic_exit.modeling")
        return getattr(modeling, cls.__name__).from_pretrained(*arguments, **options)

    @classmethod
    def _from_config(cls, *arguments: Any, **options: Any) -> NoReturn:
        raise ExportError(f"a configuration holds no weights; call from_pretrained of {cls.__name__} with the folder")


def register_config() -> None:
    """Make `AutoConfig` know the configuration of dynamic models."""
    importlib.import_module("dynamic_exit.artifact.model_config")


def register_models() -> None:
    """Make the auto classes of both tasks, and the pipelines that ask them, know dynamic models."""
    from transformers.models.auto import modeling_auto

    from ...artifact.model_config import DynamicExitModelConfig

    for auto_class, name in _MODELS.items():
        getattr(modeling_auto, auto_class).register(DynamicExitModelConfig, type(name, (_Deferred,), {}), exist_ok=True)


def register_image_processor() -> None:
    """Make `AutoImageProcessor` know the processor of dynamic models, where there is Pillow to read images with."""
    if find_spec("PIL"):
        importlib.import_module("dynamic_exit.artifact.image_processor")
