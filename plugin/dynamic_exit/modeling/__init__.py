"""Models as users load them, in the manner of Optimum."""

from ..artifact.model_config import DynamicExitModelConfig
from .classifiers import (
    DynamicExitModelForImageClassification,
    DynamicExitModelForSequenceClassification,
    DynamicExitOutput,
    load_any,
)

__all__ = [
    "DynamicExitModelConfig",
    "DynamicExitImageProcessor",
    "DynamicExitModelForImageClassification",
    "DynamicExitModelForSequenceClassification",
    "DynamicExitOutput",
    "load_any",
]


def __getattr__(name: str):
    # on first use only: transformers' image processors bring all of its quantizers with them, and a second of imports
    if name == "DynamicExitImageProcessor":
        from ..artifact.image_processor import DynamicExitImageProcessor

        return DynamicExitImageProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
