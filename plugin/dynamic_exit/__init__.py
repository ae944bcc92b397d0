"""Early exits and tiny savers for Intel Neural Compressor: trained classifiers spend less on easy inputs.

Importing this package registers its passes with Neural Compressor.
"""

import logging

from .core import signals

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library is silent unless it is asked
signals.end_at_once_while_importing()  # before imports that take seconds

from .artifact.standalone import DynamicExitRunner, load_runner  # noqa: E402
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
    "DynamicExitRunner",
    "EarlyExitConfig",
    "PruningConfig",
    "TinySaverConfig",
    "compress",
    "load",
    "load_runner",
    "save",
]
