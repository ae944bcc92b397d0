"""Quantization by Neural Compressor's own algorithm names and parameters."""

from .config import check_algorithms, int8_options
from .for_torch import TorchOptions, quantize_for_torch, torch_options

__all__ = ["TorchOptions", "check_algorithms", "int8_options", "quantize_for_torch", "torch_options"]
