"""Neural Compressor as host: registers the passes there, and compresses by recipe."""

from . import host_import  # noqa: F401, I001  the first import of Neural Compressor
from .registration import DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig
from .serialization import load, save
from .compress import compress
from .description import describe_algorithms
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
