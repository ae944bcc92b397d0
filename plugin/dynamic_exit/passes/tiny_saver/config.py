"""The stanza of the tiny-saver pass."""

from typing import Literal

from pydantic import Field, model_validator

from ..registry import register_pass
from ..stanza import ModelSource, Stanza, refuse


@register_pass("tiny_saver")
class TinySaverStanza(Stanza):
    """Tiny savers: small independent models that answer first, picked out of candidates."""

    candidates: list[ModelSource] = Field(min_length=1, description="models to pick from")
    max_savers: int = Field(1, ge=1, description="savers in a chain at most")
    fuse: Literal["none", "mean"] = Field("none", description="mean: average the probabilities of all stages so far")

    @model_validator(mode="after")
    def _unique_stages(self):
        names = [candidate.stage_name for candidate in self.candidates]
        for name in names:
            if names.count(name) > 1:
                raise refuse(f"has two candidates called '{name}'; give each its own `stage`")
        return self
