"""Model sources: timm, transformers, the user's Python code and ONNX files."""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports

if TYPE_CHECKING:
    from .base import BuiltModel, ModelBuilder, NativePreprocessing
    from .candidates import expand_candidates, load_candidate
    from .loading import find_input_parameters, has_uint8_images, load_model
    from .logits import check_logits
    from .preprocessing import make_preprocessing
    from .transformers import check_model_config
    from .weights import check_trained, load_weights, quote_names, seeded_generators

__all__ = [
    "BuiltModel",
    "ModelBuilder",
    "NativePreprocessing",
    "check_logits",
    "check_model_config",
    "check_trained",
    "expand_candidates",
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
        "base": ("BuiltModel", "ModelBuilder", "NativePreprocessing"),
        "candidates": ("expand_candidates", "load_candidate"),
        "loading": ("find_input_parameters", "has_uint8_images", "load_model"),
        "logits": ("check_logits",),
        "preprocessing": ("make_preprocessing",),
        "transformers": ("check_model_config",),
        "weights": ("check_trained", "load_weights", "quote_names", "seeded_generators"),
    },
)
