"""Runtimes that a model is exported for.

An `Exporter` exports a backbone's segments, savers and exits as parts, quantized where the recipe says so. A `Target`
also assembles those in use: what it assembles writes the model's files and verifies what was written. `kinds` holds
what recipes and loaders know of each.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .base import AssembledModel, Exporter, Target
    from .onnxruntime import OnnxRuntimeTarget
    from .torch import TorchTarget

__all__ = ["AssembledModel", "Exporter", "OnnxRuntimeTarget", "Target", "TorchTarget"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ("AssembledModel", "Exporter", "Target"),
        "onnxruntime": ("OnnxRuntimeTarget",),
        "torch": ("TorchTarget",),
    },
)
