"""The stanza of the early-exit pass."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from ...errors import nearest
from ..registry import register_pass
from ..stanza import Stanza, refuse
from .heads import registered_heads


def _names_or_keyword(value):
    if value in ("auto", "all") or (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
        return value
    raise refuse(f"must be 'auto', 'all' or a list of module names; got {value!r}")


class Training(Stanza):
    """How exit heads are trained, on the training split with the backbone frozen."""

    epochs: int = Field(40, ge=1, description="passes over the training split")
    batch_size: int = Field(64, ge=1, description="samples in a step")
    learning_rate: float = Field(1e-2, gt=0, description="peak of the one-cycle schedule of AdamW")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    distillation: float = Field(0.5, ge=0, le=1, description="share of the loss that compares with the final")


@register_pass("early_exit")
class EarlyExitStanza(Stanza):
    """Early exits: small heads on places inside the frozen backbone that answer early."""

    positions: Annotated[str | list[str], BeforeValidator(_names_or_keyword)] = Field(
        "auto", description="auto: `count` cuts spread by cost; all: every cut; or names of modules"
    )
    count: int = Field(4, ge=1, description="cuts that `positions: auto` picks")
    heads: list[str] = Field(["linear"], min_length=1, description="kinds of heads tried at each position")
    training: Training = Field(Training(), description="how heads are trained")

    @field_validator("heads")
    @classmethod
    def _known(cls, kinds):
        for kind in kinds:
            if kind not in registered_heads():
                raise refuse(f"names an unknown head '{kind}'; {nearest(kind, registered_heads())}")
            if kinds.count(kind) > 1:
                raise refuse(f"names the head '{kind}' twice; name it once")
        return kinds
