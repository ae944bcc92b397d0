"""The stanza of the tiny-saver pass."""

from typing import Literal

from pydantic import Field, model_validator

from ..registry import register_pass
from ..stanza import ModelSource, Stanza, refuse
from .fine_tune import FineTuneStanza
from .select import FINE_TUNED_SUFFIX


@register_pass("tiny_saver")
class TinySaverStanza(Stanza):
    """Tiny savers: small independent models that answer first, picked out of candidates."""

    candidates: list[ModelSource] = Field(min_length=1, description="models to pick from")
    selection: Literal["chain", "single"] = Field("chain", description="single: the one of largest saving")
    max_savers: int = Field(2, ge=1, description="savers in a chain at most")
    fuse: Literal["none", "mean"] = Field("mean", description="mean: average the probabilities of all stages so far")
    quantize: bool = Field(True, description="false: savers ship in float whatever `quantization` says")
    time_limit: float | None = Field(None, gt=0, description="seconds after which no further candidate is tried")
    fine_tune: FineTuneStanza | None = Field(
        None,
        description="chosen savers are trained, and kept if the chain gains; candidates without trained weights, or no "
        "better than chance, before savers are chosen",
    )

    @model_validator(mode="after")
    def _unique_stages(self):
        names = [candidate.stage_name for candidate in self.candidates]
        for name in names:
            if names.count(name) > 1:
                raise refuse(f"has two candidates called '{name}'; give each its own `stage`")
            if name.endswith(FINE_TUNED_SUFFIX):
                raise refuse(f"has a candidate called '{name}', as a trained one would be; give it another `stage`")
        return self
