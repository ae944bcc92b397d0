"""The builder of each model source; a new source is a file beside this one and a line here."""

from .base import ModelBuilder
from .onnx import OnnxBuilder
from .python import PythonBuilder
from .timm import TimmBuilder
from .transformers import TransformersBuilder

#: Name of the source in a recipe -> its builder.
BUILDERS: dict[str, ModelBuilder] = {
    "timm": TimmBuilder(),
    "transformers": TransformersBuilder(),
    "python": PythonBuilder(),
    "onnx": OnnxBuilder(),
}
