"""Early exits and tiny savers for Intel Neural Compressor: trained classifiers spend less on easy inputs.

Importing this package registers its passes with Neural Compressor.
"""

from .host import EarlyExitConfig, PruningConfig, TinySaverConfig, compress
from .hub import DynamicExitModelForImageClassification

__all__ = [
    "DynamicExitModelForImageClassification",
    "EarlyExitConfig",
    "PruningConfig",
    "TinySaverConfig",
    "compress",
]
