"""The stanza of the early-exit pass."""

import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from ...errors import nearest
from ..choices import AUGMENTS, AugmentName
from ..registry import register_pass
from ..stanza import Stanza, explain, refuse

if TYPE_CHECKING:
    from .heads import HeadEntry

#: Heads of this package, each in a file of its name: a recipe that names them is read without importing torch.
BUILT_IN_HEADS = ("attention", "conv", "linear", "mlp", "residual")


def _names_or_keyword(value: object) -> object:
    if value in ("auto", "all") or (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
        return value
    raise refuse(f"must be 'auto', 'all' or a list of module names; got {value!r}")


def _others_have_heads() -> bool:
    """Whether there may be heads besides those of this package: of other distributions, or registered by now."""
    return f"{__package__}.heads.base" in sys.modules or bool(entry_points(group="dynamic_exit.heads"))


def _head(value: Any) -> str | dict[str, Any]:
    kind = value.get("kind") if isinstance(value, Mapping) else value
    if not isinstance(kind, str):
        raise refuse(f"must hold names of heads, or mappings with their `kind`; got {value!r}")
    if isinstance(value, str) and value in BUILT_IN_HEADS:
        return value
    if isinstance(kind, str) and kind not in BUILT_IN_HEADS and not _others_have_heads():
        raise refuse(f"names an unknown head '{kind}'; {nearest(kind, BUILT_IN_HEADS)}")
    from .heads.base import HEADS

    if kind not in HEADS:
        if reason := HEADS.why_broken(kind):
            raise refuse(f"names the head '{kind}', which could not be loaded: {reason}")
        raise refuse(f"names an unknown head '{kind}'; {nearest(kind, HEADS.names())}")
    if isinstance(value, str):
        return value
    try:
        fields = {key: each for key, each in value.items() if key != "kind"}
        options = HEADS.find(kind).Options.model_validate(fields)
    except ValidationError as error:
        raise refuse(f"sets up the head '{kind}' wrongly: {explain(error)}") from None
    return {"kind": kind, **options.model_dump(mode="json")}


class SequenceOptions(Stanza):
    """The exit sequence network: one more exit at each position, which reads all earlier ones and the last saver."""

    width: int = Field(32, ge=2, description="size of each position's token")
    heads: int = Field(2, ge=1, description="attention heads over tokens; they divide the width")

    @model_validator(mode="after")
    def _width_is_divisible(self) -> "SequenceOptions":
        if self.width % self.heads:
            raise refuse(f"has {self.heads} heads for a width of {self.width}; choose heads that divide the width")
        return self


class Training(Stanza):
    """How exit heads are trained, on the training split with a frozen backbone."""

    epochs: int = Field(40, ge=1, description="passes over the training split")
    batch_size: int = Field(64, ge=1, description="samples per step")
    learning_rate: float = Field(1e-2, gt=0, description="peak rate of AdamW: linear warm-up, then half a cosine")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps that are warm-up")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    distillation: float = Field(0.5, ge=0, le=1, description="share of the loss that compares with the backbone")
    weighting: Literal["none", "previous", "reach"] = Field(
        "none",
        description="weigh samples by the uncertainty of the previous stage; reach: of the most certain of all before",
    )
    augment: AugmentName = Field("none", description=AUGMENTS)
    views: int = Field(1, ge=1, description="augmented copies of each sample that the cache holds")
    validation: float = Field(0.1, ge=0, lt=1, description="share of the split that selects the best epoch")
    patience: int = Field(10, ge=1, description="epochs without an improvement of any head after which training stops")
    cache: Literal["disk", "none"] = Field("disk", description="none: run the backbone in every epoch")
    cache_limit: float = Field(20.0, gt=0, description="GB that the cache of features may take on disk")

    @model_validator(mode="after")
    def _views_differ(self) -> "Training":
        if self.views > 1 and self.augment == "none":
            raise refuse(f"asks for {self.views} views of each sample without `augment`, all of them alike; set it")
        return self


@register_pass("early_exit")
class EarlyExitStanza(Stanza):
    """Early exits: small heads inside the frozen backbone that answer early."""

    positions: Annotated[str | list[str], BeforeValidator(_names_or_keyword)] = Field(
        "auto", description="auto: `count` cuts evenly spaced by cost; all: every cut; or names of modules by depth"
    )
    count: int = Field(4, ge=1, description="cuts that `positions: auto` picks")
    heads: list[str | dict[str, Any]] = Field(
        ["linear"], min_length=1, description="kinds of heads tried at each position, or mappings of kind and options"
    )
    sequence: SequenceOptions | None = Field(
        None, description="set ({} for its defaults): exits that read all earlier positions, built on the last saver"
    )
    training: Training = Field(Training(), description="how heads are trained")

    @property
    def entries(self) -> "list[HeadEntry]":
        """The heads tried at each position, with names and options."""
        from .heads import name_heads

        return name_heads(self.heads)

    @field_validator("heads", mode="before")
    @classmethod
    def _known_and_unique(cls, heads: Any) -> Any:
        heads = [_head(head) for head in heads] if isinstance(heads, list | tuple) else heads
        for head in heads if isinstance(heads, list) else ():
            if heads.count(head) > 1:
                kind = head if isinstance(head, str) else head["kind"]
                raise refuse(f"names the head '{kind}' twice; name it once")
        return heads
