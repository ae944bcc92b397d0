"""Early exits and tiny savers for Intel Neural Compressor: trained classifiers spend less on easy inputs.

Importing this package registers its passes with Neural Compressor.
"""

from .core import signals

signals.end_at_once_while_importing()  # before imports that take seconds

from .integrations.neural_compressor import (  # noqa: E402
    ConfigurationOptimizer,
    DynamicExitConfig,
    EarlyExitConfig,
    PruningConfig,
    TinySaverConfig,
    compress,
    load,
    save,
)
from .modeling import (  # noqa: E402
    DynamicExitModelForImageClassification,
    DynamicExitModelForSequenceClassification,
)

__all__ = [
    "ConfigurationOptimizer",
    "DynamicExitConfig",
    "DynamicExitModelForImageClassification",
    "DynamicExitModelForSequenceClassification",
    "EarlyExitConfig",
    "PruningConfig",
    "TinySaverConfig",
    "compress",
    "load",
    "save",
]
