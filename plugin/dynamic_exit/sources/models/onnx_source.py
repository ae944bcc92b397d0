"""Models that are ONNX files of one input."""

from pathlib import Path

from torch import nn

from ...onnx.classifier import OnnxClassifier, import_onnx
from ...passes import ModelKind
from .base import BuiltModel, ModelBuilder, NativePreprocessing
from .files import match_paths
from .onnx_keys import OnnxSource


class OnnxBuilder(ModelBuilder[OnnxSource]):
    """Imports ONNX files, which hold their own weights."""

    knows_untrained = True

    def build(self) -> BuiltModel:
        """Import the file."""
        return BuiltModel(import_onnx(self.source.name))

    def read_preprocessing(self, model: nn.Module) -> NativePreprocessing:
        """Return the size of the file's input, if it is fixed."""
        size = model.image_size if isinstance(model, OnnxClassifier) else None
        return super().read_preprocessing(model) if size is None else {"size": size}

    def find_matches(self) -> tuple[list[str], str]:
        """List the files that match the pattern."""
        return match_paths(self.source.name, Path.is_file)


KIND = ModelKind(OnnxSource, OnnxBuilder)
