"""The stanza of a model, and the registry of the sources that models come from."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, field_validator

from ..core.registry import Registry, find_built_in
from ..errors import ModelError
from .kinds import add_names, check_registered, stanza_of_kind
from .stanza import Labels, PathOrName, Preprocessing, RecipePath, Stanza


class ModelSource(Stanza):
    """The source of a classifier."""

    source: str = Field(
        description="library, your own code, or file",
        json_schema_extra=lambda schema: add_names(schema, MODEL_SOURCES),
    )
    name: PathOrName = Field(
        description="timm name, Hugging Face name or folder, file.py:function, or .onnx file; for a candidate, also a "
        "pattern such as mobilenet*"
    )
    weights: RecipePath | None = Field(
        None,
        description=".safetensors, a torch file of plain tensors, or a folder of `save_pruned`; {name} is replaced by "
        "the name of each model of a pattern; null: those of timm are random unless `arguments` say pretrained: true "
        "(downloads)",
    )
    weights_key: str | None = Field(
        None, description="entry of `weights` to take, such as model_ema; null: the one that fits, no average"
    )
    arguments: dict[str, Any] = Field({}, description="keyword arguments for the model's constructor")
    preprocessing: Preprocessing = Field(Preprocessing(), description="applied inside the graph")
    labels: Labels = Field(
        None,
        description="the model's own classes in the order of its logits: a list, a .json file (list, or index: name) "
        "or a .txt file (one name per line); null: those that the model states, else the backbone's",
    )
    quantize: bool = Field(True, description="false: it stays in float whatever `quantization` says")
    stage: str | None = Field(None, description="name of the stage; default: the last part of `name`")

    @property
    def stage_name(self) -> str:
        """Name of the stage that this model becomes."""
        return self.stage or re.sub(r"\.(py|onnx)$", "", re.split(r"[/:]", self.name)[-1])

    @field_validator("source", mode="before")
    @classmethod
    def _check_source(cls, name: Any) -> str:
        return check_registered(name, MODEL_SOURCES)


@dataclass(frozen=True)
class ModelKind:
    """A kind of model source.

    Attributes:
        stanza: Model of its keys: `ModelSource`, or a subclass with further ones.
        builder: ``(stanza) -> builder``: a subclass of `dynamic_exit.sources.models.ModelBuilder`.
    """

    stanza: type[ModelSource]
    builder: Callable[[Any], Any]


def _check_kind(name: str, kind: object) -> None:
    if not (isinstance(kind, ModelKind) and isinstance(kind.stanza, type) and issubclass(kind.stanza, ModelSource)):
        raise ModelError(
            f"model source '{name}' must be a ModelKind whose stanza is a subclass of ModelSource; got {kind!r}"
        )
    missing = sorted(getattr(kind.builder, "__abstractmethods__", ()))
    if missing:
        raise ModelError(f"model source '{name}' has a builder that lacks `{missing[0]}`; add it")


#: The kinds by the name that recipes use; the name of an entry point is the name of its kind.
MODEL_SOURCES: Registry[ModelKind] = Registry(
    "model source",
    ModelError,
    "dynamic_exit.models",
    built_in=find_built_in("sources/models", "_source", first=("timm", "transformers", "python", "onnx")),
    check=_check_kind,
)
#: The stanza of the kind that its `source` names.
AnyModelSource = Annotated[SerializeAsAny[ModelSource], stanza_of_kind(MODEL_SOURCES, plain=ModelSource)]
