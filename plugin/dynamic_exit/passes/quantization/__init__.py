"""Quantization by Neural Compressor's own algorithm names and parameters."""

from .config import check_algorithms, int8_options

__all__ = ["check_algorithms", "int8_options"]
