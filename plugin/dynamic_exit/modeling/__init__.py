"""The classes that users load models with, in the style of Optimum and transformers."""

import importlib
from typing import TYPE_CHECKING, Any

from ..core.garbage import rare_searches

with rare_searches():
    from ..artifact.model_config import DynamicExitModelConfig
    from .auto import AutoDynamicExitModel
    from .base import DynamicExitClassifier
    from .image_classification import DynamicExitModelForImageClassification
    from .output import DynamicExitOutput
    from .sequence_classification import DynamicExitModelForSequenceClassification

if TYPE_CHECKING:
    from ..artifact.image_processor import DynamicExitImageProcessor

__all__ = [
    "AutoDynamicExitModel",
    "DynamicExitClassifier",
    "DynamicExitImageProcessor",
    "DynamicExitModelConfig",
    "DynamicExitModelForImageClassification",
    "DynamicExitModelForSequenceClassification",
    "DynamicExitOutput",
]


def __getattr__(name: str) -> Any:
    if name == "DynamicExitImageProcessor":  # on first use: image processors of transformers take a second to import
        return importlib.import_module("..artifact.image_processor", __name__).DynamicExitImageProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
