"""What every stanza of a recipe shares: unknown keys are refused, paths are relative to the recipe."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..errors import nearest


class Stanza(BaseModel):
    """Base of all stanzas: frozen, and a key that it does not know is refused with the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in values:
                if key not in cls.model_fields:
                    hint = nearest(str(key), cls.model_fields)
                    raise PydanticCustomError("unknown_key", "{key}: {hint}", {"key": str(key), "hint": hint})
        return values


def explain(error: ValidationError, root: str = "") -> str:
    """Return one sentence for the first thing that a stanza was refused for.

    Args:
        error: What pydantic raised.
        root: Where the stanza stands in the recipe, such as ``dynamic_exit.tuning``.

    Returns:
        The sentence, with the full dotted path of the key.
    """
    first = error.errors()[0]
    path = ".".join([root] * bool(root) + [str(step) for step in first["loc"]])
    if first["type"] == "unknown_key":
        key, hint = first["ctx"]["key"], first["ctx"]["hint"]
        return f"unknown key '{path + '.' if path else ''}{key}'; {hint}"
    if first["type"] == "missing":
        return f"key '{path}' is missing; add it to the recipe"
    if first["type"] == "refused":
        return f"key '{path}' {first['msg']}" if path else first["msg"]
    message = re.sub("^Input should be", "must be", first["msg"])
    return f"key '{path}' {message[0].lower() + message[1:]}; got {first['input']!r}"


def refuse(message: str) -> PydanticCustomError:
    """Return an error for a validator to raise; `message` continues the sentence "key 'x' ..."."""
    return PydanticCustomError("refused", "{message}", {"message": message})


def _expand(text: str) -> str:
    expanded = os.path.expanduser(os.path.expandvars(text))
    unset = re.search(r"\$\{?(\w+)", expanded)
    if unset:
        raise refuse(f"names the environment variable '{unset[1]}', which is not set; set it or write the path out")
    return expanded


def absolute(text: str, info: ValidationInfo) -> str:
    """Make a path, or ``file.py:function``, of a recipe absolute; ``package.module:function`` stays as it is."""
    if re.fullmatch(r"[A-Za-z_][\w.]*:\w+", text) and ".py:" not in text:
        return text  # package.module:function
    return os.path.normpath(Path((info.context or {}).get("base", Path.cwd()), _expand(text)).absolute())


def _absolute_name(text: str, info: ValidationInfo) -> str:
    file = info.data.get("source") == "onnx" or re.search(r"\.py(:[^/:]+)?$|^[.~$/]", text)
    return absolute(text, info) if file else text


def _absolute_labels(labels: list[str] | str | None, info: ValidationInfo) -> list[str] | str | None:
    return absolute(labels, info) if isinstance(labels, str) else labels


def _relative_labels(labels: list[str] | str | None, info) -> list[str] | str | None:
    return relative(labels, info) if isinstance(labels, str) else labels


def relative(text: str, info) -> str:
    """Make a path relative to the folder that a recipe is written to; other names stay as they are."""
    base = (info.context or {}).get("base")
    return os.path.relpath(text, base) if base and os.path.isabs(text) else text


#: A path in a recipe, or ``file.py:function``: environment variables expand, absolute in memory, relative to the recipe
#: when written. ``package.module:function`` stays as it is.
RecipePath = Annotated[str, AfterValidator(absolute), PlainSerializer(relative)]
#: A name that is taken for a path only where it looks like one.
PathOrName = Annotated[str, AfterValidator(_absolute_name), PlainSerializer(relative)]
#: Class names, or the path of a file that holds them.
Labels = Annotated[list[str] | str | None, AfterValidator(_absolute_labels), PlainSerializer(_relative_labels)]


class Preprocessing(Stanza):
    """What a model does to the common input before its first layer: scale, resize, normalise, in this order."""

    size: tuple[int, int] | None = Field(None, description="height and width to resize to, in pixels")
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = Field(
        None, description="how to resize; null: bilinear"
    )
    scale: float | None = Field(
        None,
        description="multiplied first, such as 0.00392157 for pixels of 0..255; null: 1, or with `from_model` what "
        "brings bytes into the model's range",
    )
    mean: list[float] | None = Field(None, description="subtracted, one value for each channel")
    std: list[float] | None = Field(None, description="divided by, one value for each channel")
    from_model: bool = Field(
        False, description="true: what is null is what the model was made for, given bytes or a range of 0..1"
    )

    @field_validator("std")
    @classmethod
    def _positive(cls, values):
        if values is not None and not all(value > 0 for value in values):
            raise refuse(f"must hold positive numbers; got {values}")
        return values


class ModelSource(Stanza):
    """Where a classifier comes from."""

    source: Literal["timm", "transformers", "python", "onnx"] = Field(description="library, own code or file")
    name: PathOrName = Field(
        description="timm name, Hugging Face name or folder, file.py:function, or .onnx file; a candidate's may be a "
        "pattern such as mobilenet*"
    )
    weights: RecipePath | None = Field(
        None,
        description=".safetensors, a torch file of plain tensors, or a folder that `save_pruned` wrote; {name} stands "
        "for the name of each model of a pattern; null: timm's are random unless `arguments` say pretrained: true "
        "(downloads)",
    )
    arguments: dict[str, Any] = Field({}, description="keyword arguments for the model's constructor")
    preprocessing: Preprocessing = Field(Preprocessing(), description="applied inside the graph")
    labels: Labels = Field(
        None,
        description="the model's own classes in the order of its logits: a list, a .json file (list, or index: name) "
        "or a .txt file (a name a line); null: what the model says, else the backbone's",
    )
    quantize: bool = Field(True, description="false: it ships in float whatever `quantization` says")
    stage: str | None = Field(None, description="name of the stage; default: the last part of `name`")

    @property
    def stage_name(self) -> str:
        """Name of the stage that this model becomes."""
        return self.stage or re.sub(r"\.(py|onnx)$", "", re.split(r"[/:]", self.name)[-1])

    @model_validator(mode="after")
    def _onnx_is_whole(self):
        given = [key for key in ("weights", "arguments") if self.source == "onnx" and getattr(self, key)]
        if given:
            raise refuse(f"names an ONNX file, which holds its own weights and needs no `{given[0]}`; remove it")
        return self
