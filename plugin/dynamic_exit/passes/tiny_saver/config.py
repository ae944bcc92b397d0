"""The stanzas of the tiny-saver pass."""

from typing import Literal

from pydantic import Field, model_validator

from ...chain.evidence import EvidenceName
from ..choices import AUGMENTS, AugmentName
from ..model_source import ModelSource
from ..registry import register_pass
from ..stanza import Stanza, refuse
from .makers.stanza import AUTO, AnyCandidate, MakerStanza

#: Suffix of the name of a stage that was fine-tuned as a saver.
FINE_TUNED_SUFFIX = ":finetuned"


class FineTuneStanza(Stanza):
    """Training of savers on the training split, so that their confidence separates correct answers from wrong ones."""

    epochs: int = Field(4, ge=1, description="passes over the training split")
    batch_size: int = Field(64, ge=2, description="samples per step at least, if there are as many")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate of AdamW, after a warm-up and before cosine decay")
    weight_decay: float = Field(1e-4, ge=0, description="of AdamW")
    loss: Literal["gatekeeper", "distillation"] = Field(
        "distillation", description="gatekeeper: uncertain where it is wrong; distillation: cross-entropy everywhere"
    )
    alpha: float = Field(
        0.5, gt=0, lt=1, description="gatekeeper: 1 - alpha is the weight of being uncertain where it is wrong"
    )
    distillation: float = Field(
        0.0, ge=0, le=1, description="share of the loss that follows the backbone; 0 if it has memorized the split"
    )
    temperature: float = Field(2.0, gt=0, le=100, description="of both logits where the backbone is followed")
    augment: AugmentName = Field("none", description=AUGMENTS)


@register_pass("tiny_saver")
class TinySaverStanza(Stanza):
    """Tiny savers: small independent models that answer first, chosen out of candidates."""

    candidates: list[AnyCandidate] = Field(
        [{"make": AUTO}],  # type: ignore[list-item]  # validated as what a recipe says
        min_length=1,
        description="models to choose from, and makers of some",
    )
    selection: Literal["chain", "single"] = Field("chain", description="single: the one with the largest saving")
    max_savers: int = Field(2, ge=1, description="maximum number of savers in a chain")
    fuse: EvidenceName | None = Field(None, description="older place of `tuning.fuse`, read where that is `auto`")
    quantize: bool = Field(True, description="false: savers stay in float whatever `quantization` says")
    time_limit: float | None = Field(None, gt=0, description="seconds after which no further candidate is tried")
    fine_tune: FineTuneStanza | None = Field(
        None,
        description="chosen savers are trained, and kept if the chain gains; candidates without trained weights, or no "
        "better than chance, before savers are chosen",
    )

    replace_backbone: bool = Field(
        False,
        description="true: a saver that is right as often as the backbone on calibration samples, at a lower cost, "
        "takes its place, and the backbone is not exported; not with `tuning.static_search`",
    )

    @property
    def models(self) -> list[ModelSource]:
        """The candidates that are given."""
        return [each for each in self.candidates if isinstance(each, ModelSource)]

    @property
    def makers(self) -> list[MakerStanza]:
        """The makers of further candidates."""
        return [each for each in self.candidates if isinstance(each, MakerStanza)]

    @model_validator(mode="after")
    def _unique_stages(self) -> "TinySaverStanza":
        names = [candidate.stage_name for candidate in self.models]
        names += [maker.stage_name(share) for maker in self.makers for share in maker.shares]
        for name in names:
            if names.count(name) > 1:
                raise refuse(f"has two candidates called '{name}'; give each its own `stage`")
            if name.endswith(FINE_TUNED_SUFFIX):
                raise refuse(f"has a candidate called '{name}', as a trained one would be; give it another `stage`")
        return self
