"""Model sources: timm, transformers, the user's Python code and ONNX files."""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports

if TYPE_CHECKING:
    from .base import BuiltModel, ModelBuilder, NativePreprocessing, find_builder
    from .candidates import expand_candidates, load_candidate
    from .loading import find_input_parameters, has_uint8_images, load_model
    from .preprocessing import make_preprocessing
    from .weights import check_trained, load_weights, quote_names, seeded_generators

__all__ = [
    "BuiltModel",
    "ModelBuilder",
    "NativePreprocessing",
    "check_trained",
    "expand_candidates",
    "find_builder",
    "find_input_parameters",
    "has_uint8_images",
    "load_candidate",
    "load_model",
    "load_weights",
    "make_preprocessing",
    "quote_names",
    "seeded_generators",
]

# on first use: these modules import torch
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ("BuiltModel", "ModelBuilder", "NativePreprocessing", "find_builder"),
        "candidates": ("expand_candidates", "load_candidate"),
        "loading": ("find_input_parameters", "has_uint8_images", "load_model"),
        "preprocessing": ("make_preprocessing",),
        "weights": ("check_trained", "load_weights", "quote_names", "seeded_generators"),
    },
)
