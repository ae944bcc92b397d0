"""The stanza `export`: what is written, and where."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from ..passes import Stanza
from ..passes.kinds import add_names, check_registered, stanza_of_kind
from ..passes.stanza import RecipePath
from .target_registry import DEFAULT_TARGET, TARGETS


class Export(Stanza):
    """What is written, and where."""

    directory: RecipePath = Field(description="a folder that does not exist yet, or an empty one")
    target: str = Field(
        DEFAULT_TARGET, description="what runs the model", json_schema_extra=lambda schema: add_names(schema, TARGETS)
    )
    format: str = Field("onnx", description="onnx for onnxruntime; pt2, torch.export's, for torch")
    layout: Literal["single", "segments"] = Field(
        "single",
        description="single: one ONNX file; segments: one a stage, for runtimes that are slow at `If` and for torch",
    )
    drop_unreached: bool = Field(
        False,
        description="true: stages that no calibration sample gets to at any operating point are not written, the "
        "backbone's own head included; the last stage that one gets to answers the rest",
    )
    compile: bool = Field(False, description="for torch: stages are compiled with inductor here and when loaded")

    @field_validator("target", mode="before")
    @classmethod
    def _check_target(cls, name: Any) -> str:
        return check_registered(name, TARGETS)


#: The stanza of the kind that its `target` names.
AnyExport = Annotated[SerializeAsAny[Export], stanza_of_kind(TARGETS, "target", DEFAULT_TARGET)]
