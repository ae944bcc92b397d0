"""Dynamic models in ONNX: export and quantization of parts, and one file stitched of them.

The functions `stitch.stitch` and `unstitch.unstitch`, which make such a file and take it apart, are not in the public
list, as their modules have the same names.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .classifier import OnnxClassifier, import_onnx
    from .dequantize import can_dequantize, dequantize_part
    from .export import export_part
    from .external_data import save_model
    from .graph_builder import GraphBuilder
    from .inference import open_file
    from .model_parts import ModelParts
    from .part import BATCH, Part
    from .quantize import QuantizationOptions, is_quantized, quantize_part
    from .session import PartSession, open_session
    from .unstitch import static_model
    from .verification import Agreement, assert_equivalent, compare, is_equivalent

__all__ = [
    "BATCH",
    "Agreement",
    "GraphBuilder",
    "ModelParts",
    "OnnxClassifier",
    "Part",
    "PartSession",
    "QuantizationOptions",
    "assert_equivalent",
    "can_dequantize",
    "compare",
    "dequantize_part",
    "export_part",
    "import_onnx",
    "is_equivalent",
    "is_quantized",
    "open_file",
    "open_session",
    "quantize_part",
    "save_model",
    "static_model",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "classifier": ("OnnxClassifier", "import_onnx"),
        "dequantize": ("can_dequantize", "dequantize_part"),
        "export": ("export_part",),
        "external_data": ("save_model",),
        "graph_builder": ("GraphBuilder",),
        "inference": ("open_file",),
        "model_parts": ("ModelParts",),
        "part": ("BATCH", "Part"),
        "quantize": ("QuantizationOptions", "is_quantized", "quantize_part"),
        "session": ("PartSession", "open_session"),
        "unstitch": ("static_model",),
        "verification": ("Agreement", "assert_equivalent", "compare", "is_equivalent"),
    },
)
