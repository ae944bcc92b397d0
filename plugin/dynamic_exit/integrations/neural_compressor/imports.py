"""Imports Neural Compressor after transformers and without its log messages, before other modules of this package."""

from ...passes.quantization.neural_compressor import import_neural_compressor

import_neural_compressor()
