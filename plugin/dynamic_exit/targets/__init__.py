"""Runtimes that a model is exported for.

A `Target` exports a backbone's segments, savers and exits as parts, quantized where the recipe says so, assembles those
in use, writes the model's files and verifies what was written. `create_target` makes the one that a recipe asks for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import AssembledModel, Target
    from .create import create_target
    from .onnxruntime import OnnxRuntimeTarget
    from .torch import TorchTarget

__all__ = ["AssembledModel", "OnnxRuntimeTarget", "Target", "TorchTarget", "create_target"]

_MODULES = {
    "AssembledModel": ".base",
    "OnnxRuntimeTarget": ".onnxruntime",
    "Target": ".base",
    "TorchTarget": ".torch",
    "create_target": ".create",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
