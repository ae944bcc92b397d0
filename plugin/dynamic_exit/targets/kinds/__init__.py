"""The kinds of targets: their keys in recipes, and how their folders are opened.

They import what exporting needs when they export: whoever loads a model waits for none of it.
"""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports

if TYPE_CHECKING:
    from .onnxruntime import OnnxRuntime, OnnxRuntimeExport
    from .torch import Torch, TorchExport

__all__ = ["OnnxRuntime", "OnnxRuntimeExport", "Torch", "TorchExport"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "onnxruntime": ("OnnxRuntime", "OnnxRuntimeExport"),
        "torch": ("Torch", "TorchExport"),
    },
)
