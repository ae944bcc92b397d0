"""Quantization by the names and parameters of Neural Compressor's own algorithms.

`check_algorithms` checks a recipe's stanza, `int8_options` translates it for ONNX, `torch_options` and
`quantize_for_torch` run Neural Compressor itself on one segment. Nothing here imports Neural Compressor before it runs.
"""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports

if TYPE_CHECKING:
    from .config import check_algorithms, int8_options
    from .for_torch import TorchOptions, quantize_for_torch, torch_options

__all__ = ["TorchOptions", "check_algorithms", "int8_options", "quantize_for_torch", "torch_options"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "config": ("check_algorithms", "int8_options"),
        "for_torch": ("TorchOptions", "quantize_for_torch", "torch_options"),
    },
)
