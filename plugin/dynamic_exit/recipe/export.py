"""The stanza `export`: what is written, and where."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ..passes import Stanza
from ..passes.stanza import RecipePath, refuse


class Export(Stanza):
    """What is written, and where."""

    directory: RecipePath = Field(description="a folder that does not exist yet, or an empty one")
    target: Literal["onnxruntime", "torch"] = Field("onnxruntime", description="what runs the model")
    format: Literal["onnx", "pt2"] = Field("onnx", description="onnx for onnxruntime; pt2, torch.export's, for torch")
    layout: Literal["single", "segments"] = Field(
        "single",
        description="single: one ONNX file; segments: one a stage, for runtimes that are slow at `If` and for torch",
    )
    compile: bool = Field(False, description="for torch: stages are compiled with inductor here and when loaded")

    @model_validator(mode="before")
    @classmethod
    def _add_torch_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("target") == "torch":
            return {"format": "pt2", "layout": "segments", **values}
        return values

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        onnx = self.target == "onnxruntime"
        if onnx != (self.format == "onnx"):
            reason = f"holds `format: {self.format}`, but `target: {self.target}` has {'onnx' if onnx else 'pt2'}"
            raise refuse(f"{reason}; leave `format` out")
        if not onnx and self.layout == "single":
            raise refuse("holds `layout: single`, but `target: torch` has one file a stage; leave `layout` out")
        if onnx and self.compile:
            raise refuse("holds `compile`, which is for `target: torch`, not for `target: onnxruntime`; remove it")
        return self
