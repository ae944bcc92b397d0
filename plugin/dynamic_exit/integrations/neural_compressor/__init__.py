"""The passes inside Intel Neural Compressor, and compression by its configs or by a recipe.

Importing this package registers the passes with Neural Compressor.
"""

from . import imports  # noqa: F401, I001  must be the first import of Neural Compressor
from .registration import DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig
from .compress import compress
from .description import describe_algorithms
from .serialization import load, save
from .strategy import ConfigurationOptimizer

__all__ = [
    "ConfigurationOptimizer",
    "DynamicExitConfig",
    "EarlyExitConfig",
    "PruningConfig",
    "TinySaverConfig",
    "compress",
    "describe_algorithms",
    "load",
    "save",
]
