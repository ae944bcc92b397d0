"""Models that are ONNX files of one input."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from torch import nn

from ...onnx.classifier import OnnxClassifier, import_onnx
from ...passes import ModelKind, ModelSource
from ...passes.stanza import RecipePath, refuse
from .base import BuiltModel, ModelBuilder, NativePreprocessing
from .files import match_paths


class OnnxSource(ModelSource):
    """A classifier in an ONNX file."""

    name: RecipePath = Field(description=".onnx file; for a candidate, also a pattern")

    @model_validator(mode="after")
    def _check_complete(self) -> Self:
        extra = next((key for key in ("weights", "arguments") if getattr(self, key)), None)
        if extra:
            raise refuse(f"names an ONNX file, which holds its own weights and needs no `{extra}`; remove it")
        return self


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
