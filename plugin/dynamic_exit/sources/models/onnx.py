"""Models that are ONNX files of one input."""

from pathlib import Path

from torch import nn

from ...onnx.classifier import OnnxClassifier, import_onnx
from ...passes import ModelSource
from .base import BuiltModel, ModelBuilder, NativePreprocessing, unknown_preprocessing
from .files import match_paths


class OnnxBuilder(ModelBuilder):
    """Imports ONNX files, which hold their own weights."""

    def build(self, source: ModelSource) -> BuiltModel:
        """Import a file."""
        return BuiltModel(import_onnx(source.name))

    def read_preprocessing(self, source: ModelSource, model: nn.Module) -> NativePreprocessing:
        """Return the size of the file's input, if it is fixed."""
        size = model.image_size if isinstance(model, OnnxClassifier) else None
        if size is None:
            raise unknown_preprocessing(source)
        return {"size": size}

    def find_matches(self, source: ModelSource) -> tuple[list[str], str]:
        """List the files that match a pattern."""
        return match_paths(source.name, Path.is_file)
