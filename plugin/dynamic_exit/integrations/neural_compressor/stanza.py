"""Stanza of the algorithm `dynamic_exit`: savers and exits, and the static passes before them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from ...passes import PruningStanza, Stanza
from ...passes.quantization import check_algorithms
from ...passes.stanza import refuse
from ...recipe.cache import CacheStanza
from ...recipe.recipe import DynamicExit
from ...recipe.static_passes import StaticPasses, in_written_order
from ...recipe.tuning import Tuning

_DYNAMIC = ("tiny_saver", "early_exit")


class DynamicExitStanza(StaticPasses, DynamicExit):
    """Savers and exits on one model, and static passes before them, in the written order."""

    subject: ClassVar[str] = ""
    pruning: PruningStanza | None = Field(None, description="fewer channels")
    quantization: dict[str, dict[str, Any] | None] | None = Field(None, description="Neural Compressor's own stanza")

    @model_validator(mode="before")
    @classmethod
    def _check_static_first(cls, values: Any) -> Any:
        keys = [key for key in values if values[key] is not None] if isinstance(values, Mapping) else []
        first = next((key for key in keys if key in _DYNAMIC), None)
        for key in keys[keys.index(first) :] if first else ():
            if key not in DynamicExit.model_fields and key in cls.model_fields:
                raise refuse(f"runs `{key}` after `{first}`; write `{key}` before `{first}`")
        return values

    @model_validator(mode="after")
    def _check_possible_in_memory(self) -> "DynamicExitStanza":
        default = Tuning.model_validate({"max_accuracy_drop": self.tuning.max_accuracy_drop})
        for key in Tuning.model_fields:
            if getattr(self.tuning, key) != getattr(default, key):
                raise refuse(f"holds `tuning.{key}`, which needs labels and an export; run a recipe for it")
        if self.cache != CacheStanza.model_validate({}):
            raise refuse("holds `cache`, which only a recipe has; remove it")
        if self.quantization is not None:
            check_algorithms(self.quantization)
        return self


def dump(stanza: Stanza) -> dict[str, Any]:
    """Return the parameters of a pass as plain values, static passes first and in the written order."""
    values = stanza.model_dump(mode="json")
    if not isinstance(stanza, StaticPasses):
        return values
    ordered = in_written_order(stanza, values)
    static = [*stanza.static_passes, "pruning", "quantization"]
    return {key: ordered[key] for key in dict.fromkeys([*static, *ordered])}
