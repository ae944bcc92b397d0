"""The stanza `export`: what is written, and where."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from ..passes import Stanza
from ..passes.stanza import RecipePath, refuse
from .target_registry import DEFAULT_TARGET, TARGETS


class Export(Stanza):
    """What is written, and where."""

    directory: RecipePath = Field(description="a folder that does not exist yet, or an empty one")
    target: str = Field(
        DEFAULT_TARGET, description="what runs the model", json_schema_extra=lambda schema: _add_names(schema)
    )
    format: str = Field("onnx", description="onnx for onnxruntime; pt2, torch.export's, for torch")
    layout: Literal["single", "segments"] = Field(
        "single",
        description="single: one ONNX file; segments: one a stage, for runtimes that are slow at `If` and for torch",
    )
    compile: bool = Field(False, description="for torch: stages are compiled with inductor here and when loaded")

    @field_validator("target", mode="before")
    @classmethod
    def _check_target(cls, name: Any) -> Any:
        if isinstance(name, str) and name in TARGETS:
            return name
        if reason := TARGETS.why_broken(str(name)):
            raise refuse(f"names the export target '{name}', which could not be loaded: {reason}")
        *first, last = map(repr, TARGETS.names())
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})


def _add_names(schema: dict[str, Any]) -> None:
    schema["enum"] = list(TARGETS.names())


def _of_its_target(values: Any, info: ValidationInfo) -> Any:
    name = values.get("target", DEFAULT_TARGET) if isinstance(values, Mapping) else None
    if not isinstance(name, str) or name not in TARGETS:
        return values
    return TARGETS.find(name).stanza.model_validate(values, context=info.context)


#: The stanza of the kind that its `target` names.
AnyExport = Annotated[SerializeAsAny[Export], BeforeValidator(_of_its_target)]
