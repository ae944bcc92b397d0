"""Runtimes that a model is exported for.

A `Target` exports a backbone's segments, savers and exits as parts, quantized where the recipe says so, assembles those
in use, writes the model's files and verifies what was written. `create_target` makes the one that a recipe asks for.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .base import AssembledModel, Target
    from .create import create_target
    from .onnxruntime import OnnxRuntimeTarget
    from .torch import TorchTarget

__all__ = ["AssembledModel", "OnnxRuntimeTarget", "Target", "TorchTarget", "create_target"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ("AssembledModel", "Target"),
        "create": ("create_target",),
        "onnxruntime": ("OnnxRuntimeTarget",),
        "torch": ("TorchTarget",),
    },
)
