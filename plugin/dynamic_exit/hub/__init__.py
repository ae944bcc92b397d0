"""Models as users load them, in the manner of Optimum."""

from .configuration import DynamicExitConfig
from .exporting import register_exporter
from .modeling import (
    DynamicExitModelForImageClassification,
    DynamicExitModelForSequenceClassification,
    DynamicExitOutput,
    load_any,
)

__all__ = [
    "DynamicExitConfig",
    "DynamicExitImageProcessor",
    "DynamicExitModelForImageClassification",
    "DynamicExitModelForSequenceClassification",
    "DynamicExitOutput",
    "load_any",
    "register_exporter",
]


def __getattr__(name: str):
    # on first use only: transformers' image processors bring all of its quantizers with them, and a second of imports
    if name == "DynamicExitImageProcessor":
        from .processor import DynamicExitImageProcessor

        return DynamicExitImageProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
