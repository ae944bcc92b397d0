"""The stanzas of makers: what a recipe says of savers that are made for it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator

from ...augment import AUGMENTS, AugmentName
from ...kinds import add_names, check_registered
from ...model_source import MODEL_SOURCES, ModelSource
from ...stanza import Stanza, refuse
from .registry import MAKERS

#: The maker that stands for all makers that suit the inputs.
AUTO = "auto"


class MakerStanza(Stanza):
    """Savers that are made from the backbone and the training split."""

    make: str = Field(
        AUTO,
        description="name of the maker; auto: what suits the inputs",
        json_schema_extra=lambda schema: add_names(schema, MAKERS, [AUTO]),
    )
    shares: list[float] = Field(
        [0.02, 0.06, 0.15],
        min_length=1,
        description="costs of the savers, as shares of the backbone's: the largest that fits each is made",
    )
    quantize: bool = Field(True, description="false: they stay in float whatever `quantization` says")

    @field_validator("make", mode="before")
    @classmethod
    def _check_maker(cls, name: Any) -> str:
        return check_registered(name, MAKERS, [AUTO])

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, shares: list[float]) -> list[float]:
        for share in shares:
            if not 0 < share < 1:
                raise refuse(f"must hold shares of the backbone's cost between 0 and 1; got {share:g}")
            if shares.count(share) > 1:
                raise refuse(f"holds {share:g} twice; name it once")
        return shares

    def stage_name(self, share: float) -> str:
        """Return the name of the stage that is made for a share."""
        return f"{self.make}_{share:g}"


class TrainedMakerStanza(MakerStanza):
    """Savers that are trained by distillation from the backbone's answers on views of the training split."""

    epochs: int = Field(20, ge=1, description="passes over the training split")
    batch_size: int = Field(128, ge=2, description="samples per step at least, if there are as many")
    learning_rate: float = Field(3e-3, gt=0, description="peak rate of AdamW, after a warm-up and before cosine decay")
    weight_decay: float = Field(1e-4, ge=0, description="of AdamW")
    distillation: float = Field(0.9, ge=0, le=1, description="share of the loss that follows the backbone")
    temperature: float = Field(2.0, gt=0, le=100, description="of both logits where the backbone is followed")
    augment: AugmentName = Field("none", description=AUGMENTS)
    views: int = Field(
        4, ge=1, description="views of each sample; the backbone answers each once, and epochs take them in turn"
    )
    mix: bool = Field(True, description="every second view mixes two samples, or leaves out tokens of a text")
    validation: float = Field(0.1, ge=0, lt=1, description="share of the split that selects the best epoch")
    patience: int = Field(10, ge=1, description="epochs without an improvement after which training stops")


def _validate(values: Any, info: ValidationInfo) -> Any:
    """Return the stanza of a candidate: a maker has the key `make`, a model the key `source`."""
    if not isinstance(values, Mapping):
        return values
    if "make" in values:
        name = values["make"]
        stanza = MAKERS.find(name).Options if isinstance(name, str) and name in MAKERS else MakerStanza
        return stanza.model_validate(values, context=info.context)
    source = values.get("source")
    kind = MODEL_SOURCES.find(source).stanza if isinstance(source, str) and source in MODEL_SOURCES else ModelSource
    return kind.model_validate(values, context=info.context)


#: A candidate for a saver: a model, or a maker of some.
AnyCandidate = Annotated[SerializeAsAny[ModelSource | MakerStanza], BeforeValidator(_validate)]
