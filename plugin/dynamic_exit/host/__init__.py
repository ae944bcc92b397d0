"""Neural Compressor as host: registers the passes there, and compresses by recipe."""

import os

os.environ.setdefault("LOGLEVEL", "ERROR")  # Neural Compressor reads it once, on import
import transformers  # noqa: E402, F401, I001  must be imported before Neural Compressor

from .registered import DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig  # noqa: E402
from .artifact import load, save  # noqa: E402
from .compress import compress  # noqa: E402
from .describe import describe_algorithms  # noqa: E402
from .strategy import ConfigurationOptimizer  # noqa: E402

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
