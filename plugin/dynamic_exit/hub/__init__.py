"""Models as users load them, in the manner of Optimum."""

from .configuration import DynamicExitConfig
from .modeling import DynamicExitModelForImageClassification, DynamicExitOutput

__all__ = ["DynamicExitConfig", "DynamicExitModelForImageClassification", "DynamicExitOutput"]
