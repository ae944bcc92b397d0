"""onnxruntime's quantizer, imported without side effects on the user's program.

Its import appends a folder to ``sys.path``, imports modules such as ``onnx_model`` and ``float16`` from there by these
top-level names, which the user's own modules may have too, and configures logging for the whole program.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import onnxruntime

_PACKAGE = "onnxruntime.transformers"
_FOLDER = Path(onnxruntime.__file__).parent / "transformers"


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Import modules of the folder first inside, and restore paths, modules and logging afterwards."""
    names = {path.stem for path in _FOLDER.iterdir()} - {"__init__"}

    def folders() -> dict[str, ModuleType]:
        return {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] in names or f"{name}.".startswith(f"{_PACKAGE}.")
        }

    root, path, kept = logging.getLogger(), sys.path[:], folders()
    handlers, level, package = root.handlers[:], root.level, vars(onnxruntime).get("transformers")
    for name in kept:
        del sys.modules[name]
    sys.path.insert(0, str(_FOLDER))
    try:
        yield
    finally:
        sys.path[:] = path
        for name in folders():
            del sys.modules[name]  # the importing modules keep their references
        sys.modules.update(kept)
        vars(onnxruntime).pop("transformers", None)
        if package is not None:
            onnxruntime.transformers = package
        root.handlers[:] = handlers
        root.setLevel(level)


def weights_quantizer() -> type:
    """Return onnxruntime's ``MatMulNBitsQuantizer``, which is imported on demand since few recipes need it."""
    with _apart():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    return MatMulNBitsQuantizer


with _apart():
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.quant_utils import QUANT_INPUT_SUFFIX
    from onnxruntime.quantization.shape_inference import quant_pre_process

__all__ = [
    "QUANT_INPUT_SUFFIX",
    "CalibrationDataReader",
    "CalibrationMethod",
    "QuantFormat",
    "QuantType",
    "quant_pre_process",
    "quantize_dynamic",
    "quantize_static",
    "weights_quantizer",
]
