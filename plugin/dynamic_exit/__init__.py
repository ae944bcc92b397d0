"""Early exits and tiny savers for Intel Neural Compressor: trained classifiers spend less on easy inputs.

Importing this package registers its passes with Neural Compressor.
"""

from . import signals

signals.end_at_once_while_importing()  # before imports that take seconds

from .host import (  # noqa: E402
    ConfigurationOptimizer,
    DynamicExitConfig,
    EarlyExitConfig,
    PruningConfig,
    TinySaverConfig,
    compress,
    load,
    save,
)
from .hub import (  # noqa: E402
    DynamicExitModelForImageClassification,
    DynamicExitModelForSequenceClassification,
    register_exporter,
)
from .recipe.exporter import export_pretrained  # noqa: E402

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

# from_pretrained(..., export=True) stands below recipes in the house and cannot import them
register_exporter(export_pretrained)
