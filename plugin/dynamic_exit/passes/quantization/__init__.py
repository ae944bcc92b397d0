"""Quantization by the names and parameters of Neural Compressor's own algorithms.

`check_algorithms` checks a recipe's stanza, `int8_options` translates it for ONNX, `torch_options` and
`quantize_for_torch` run Neural Compressor itself on one segment. Nothing here imports Neural Compressor before it runs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import check_algorithms, int8_options
    from .for_torch import TorchOptions, quantize_for_torch, torch_options

__all__ = ["TorchOptions", "check_algorithms", "int8_options", "quantize_for_torch", "torch_options"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".config" if name in ("check_algorithms", "int8_options") else ".for_torch"
    value = globals()[name] = getattr(importlib.import_module(module, __name__), name)
    return value
