"""Models as users load them, in the manner of Optimum."""

from .configuration import DynamicExitConfig
from .exporting import register_exporter
from .modeling import (
    DynamicExitModelForImageClassification,
    DynamicExitModelForSequenceClassification,
    DynamicExitOutput,
    load_any,
)
from .processor import DynamicExitImageProcessor

__all__ = [
    "DynamicExitConfig",
    "DynamicExitImageProcessor",
    "DynamicExitModelForImageClassification",
    "DynamicExitModelForSequenceClassification",
    "DynamicExitOutput",
    "load_any",
    "register_exporter",
]
