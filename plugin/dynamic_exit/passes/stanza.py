"""The base class of all stanzas of a recipe, and the stanzas and types that several of them use."""

import datetime
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
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..errors import nearest

_NO_WORDS = (bool, int, float, datetime.date)


class Stanza(BaseModel):
    """Base of all stanzas: frozen; an unknown key is refused with the nearest known one."""

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


# how timm marks a name that is a folder
_FOLDER = "local-dir:"


def explain(error: ValidationError, root: str = "") -> str:
    """Return one sentence on the first error of a stanza.

    Args:
        error: Raised by pydantic.
        root: Path of the stanza in the recipe, such as ``dynamic_exit.tuning``.

    Returns:
        The sentence, with the full dotted path of the key.
    """
    first = error.errors()[0]
    # of a key that takes several types, pydantic names the type, too
    steps = [str(step) for step in first["loc"] if "[" not in str(step)]
    return explain_one(first, ".".join([root] * bool(root) + steps))


def explain_one(first: Mapping[str, Any], path: str) -> str:
    """Return one sentence on one of pydantic's errors.

    Args:
        first: An entry of `ValidationError.errors`.
        path: Dotted path of the key or stanza.
    """
    if first["type"] == "unknown_key":
        key, hint = first["ctx"]["key"], first["ctx"]["hint"]
        return f"unknown key '{path + '.' if path else ''}{key}'; {hint}"
    if first["type"] == "missing":
        return f"key '{path}' is missing; add it to the recipe"
    if first["type"] == "refused":
        return f"key '{path}' {first['msg']}" if path else first["msg"]
    message, given = re.sub("^Input should be", "must be", first["msg"]), first["input"]
    # YAML reads `no`, 1 and 2020-01-01 as other things than words
    hint = "; put quotes around it" if isinstance(given, _NO_WORDS) and first["type"] == "string_type" else ""
    return f"key '{path}' {message[0].lower() + message[1:]}; got {given!r}{hint}"


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
    """Make a path or ``file.py:function`` of a recipe absolute; ``package.module:function`` stays as it is."""
    if re.fullmatch(r"[A-Za-z_][\w.]*:\w+", text) and ".py:" not in text:
        return text  # package.module:function
    return os.path.normpath(Path((info.context or {}).get("base", Path.cwd()), _expand(text)).absolute())


def _absolute_if_path(text: str, info: ValidationInfo) -> str:
    if text.startswith(_FOLDER):
        return _FOLDER + absolute(text.removeprefix(_FOLDER), info)
    return absolute(text, info) if re.search(r"\.py(:[^/:]+)?$|^[.~$/]", text) else text


def _absolute_labels(labels: list[str] | str | None, info: ValidationInfo) -> list[str] | str | None:
    return absolute(labels, info) if isinstance(labels, str) else labels


def _relative_labels(labels: list[str] | str | None, info: SerializationInfo) -> list[str] | str | None:
    return relative(labels, info) if isinstance(labels, str) else labels


def relative(text: str, info: SerializationInfo) -> str:
    """Make a path relative to the folder of the recipe that is written; other names stay as they are."""
    base = (info.context or {}).get("base")
    if text.startswith(_FOLDER):
        return _FOLDER + relative(text.removeprefix(_FOLDER), info)
    return os.path.relpath(text, base) if base and os.path.isabs(text) else text


#: A path in a recipe, or ``file.py:function``: environment variables are expanded; absolute in memory, relative to the
#: recipe when written. ``package.module:function`` stays as it is.
RecipePath = Annotated[str, AfterValidator(absolute), PlainSerializer(relative)]
#: A name, or a path if it looks like one.
PathOrName = Annotated[str, AfterValidator(_absolute_if_path), PlainSerializer(relative)]
#: Class names, or the path of a file that contains them.
Labels = Annotated[list[str] | str | None, AfterValidator(_absolute_labels), PlainSerializer(_relative_labels)]


class Preprocessing(Stanza):
    """What is done to the common input before a model's first layer: scale, resize, normalize, in this order."""

    size: tuple[int, int] | None = Field(None, description="height and width to resize to, in pixels")
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = Field(
        None, description="how to resize; null: bilinear"
    )
    scale: float | None = Field(
        None,
        description="factor, applied first, such as 0.00392157 for pixels of 0..255; null: 1, or with `from_model` the "
        "factor that brings bytes into the model's range",
    )
    mean: list[float] | None = Field(None, description="subtracted, one value per channel")
    std: list[float] | None = Field(None, description="divided by, one value per channel")
    from_model: bool = Field(
        False, description="true: null fields are those that the model was trained with, for bytes or values in 0..1"
    )

    @field_validator("std")
    @classmethod
    def _positive(cls, values: list[float] | None) -> list[float] | None:
        if values is not None and not all(value > 0 for value in values):
            raise refuse(f"must hold positive numbers; got {values}")
        return values
