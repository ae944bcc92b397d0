"""Early exits and tiny savers for Intel Neural Compressor: trained classifiers spend less on easy inputs.

Importing this package is light: what a name needs is imported when it is first used. Neural Compressor knows the passes
as soon as both are imported, in whichever order.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from .integrations import hook

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .artifact.standalone import DynamicExitRunner, load_runner
    from .integrations.neural_compressor import (
        ConfigurationOptimizer,
        DynamicExitConfig,
        EarlyExitConfig,
        PruningConfig,
        TinySaverConfig,
        load,
        save,
    )
    from .integrations.neural_compressor.compress import compress
    from .modeling import DynamicExitModelForImageClassification, DynamicExitModelForSequenceClassification
    from .passes.pretraining import pretrain

__all__ = [
    "ConfigurationOptimizer",
    "DynamicExitConfig",
    "DynamicExitModelForImageClassification",
    "DynamicExitModelForSequenceClassification",
    "DynamicExitRunner",
    "EarlyExitConfig",
    "PruningConfig",
    "TinySaverConfig",
    "__version__",
    "compress",
    "load",
    "load_runner",
    "pretrain",
    "save",
]

_PLACES = {
    ".artifact.standalone": ("DynamicExitRunner", "load_runner"),
    ".modeling": ("DynamicExitModelForImageClassification", "DynamicExitModelForSequenceClassification"),
    ".passes.pretraining": ("pretrain",),
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library is silent unless it is asked
hook.install()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = next((place for place, names in _PLACES.items() if name in names), ".integrations.neural_compressor")
    from .core.garbage import rare_searches

    with rare_searches():
        found = globals()[name] = getattr(importlib.import_module(place, __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
