"""Keys of `source: onnx`."""

from typing import Self

from pydantic import Field, model_validator

from ...passes import ModelSource
from ...passes.stanza import RecipePath, refuse


class OnnxSource(ModelSource):
    """A classifier in an ONNX file."""

    name: RecipePath = Field(description=".onnx file; for a candidate, also a pattern")

    @model_validator(mode="after")
    def _check_complete(self) -> Self:
        extra = next((key for key in ("weights", "arguments") if getattr(self, key)), None)
        if extra:
            raise refuse(f"names an ONNX file, which holds its own weights and needs no `{extra}`; remove it")
        return self


STANZA = OnnxSource
