"""The stanzas of makers: what a recipe says of savers that are made for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator

from ...choices import AUGMENTS, AugmentName, OptimizerName
from ...kinds import add_names, check_registered, find_stanza
from ...model_source import MODEL_SOURCES, ModelSource
from ...stanza import Stanza, refuse
from .registry import MAKERS

#: The maker that stands for all makers that suit the inputs.
AUTO = "auto"
#: Epochs that a saver is trained for, or as many as make so many steps, within a limit: small splits need more of them.
EPOCHS, STEPS, MAX_EPOCHS = 20, 600, 200
#: Multiply-adds from which bfloat16 is faster than the conversions that it asks for.
MIXED_FROM = 5_000_000
#: Fewest and most views of a sample, and fewest epochs to wait for an improvement, unless a recipe says otherwise.
VIEWS, PATIENCE = (4, 32), 10


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

    epochs: int | None = Field(
        None,
        ge=1,
        description=f"passes over the training split; null: {EPOCHS}, more on small splits: as many as make {STEPS} "
        f"steps, {MAX_EPOCHS} at most",
    )
    batch_size: int = Field(128, ge=2, description="samples per step at least, if there are as many")
    optimizer: OptimizerName = Field("adamw", description="sgd: with Nesterov momentum 0.9")
    learning_rate: float = Field(3e-3, gt=0, description="peak rate, after a warm-up and before cosine decay")
    weight_decay: float = Field(1e-4, ge=0, description="of the optimizer")
    distillation: float = Field(0.9, ge=0, le=1, description="share of the loss that follows the backbone")
    temperature: float = Field(2.0, gt=0, le=100, description="of both logits where the backbone is followed")
    augment: AugmentName = Field("none", description=AUGMENTS)
    views: int | None = Field(
        None,
        ge=1,
        description="views of each sample; the backbone answers each once, and epochs take them in turn; null: a "
        f"fifth of the epochs, {VIEWS[0]} to {VIEWS[1]}",
    )
    plain_view: bool = Field(
        True,
        description="the first view is the samples as they are; false: none is, if the backbone knows them by heart",
    )
    mix: bool = Field(True, description="every second view mixes two samples, or leaves out tokens of a text")
    mixed_precision: bool | None = Field(
        None,
        description="multiply in bfloat16 where training is, on a GPU or a processor with AMX; null: for savers of "
        f"{MIXED_FROM // 10**6} million multiply-adds or more, as smaller ones gain nothing",
    )
    validation: float = Field(0.1, ge=0, lt=1, description="share of the split that selects the best epoch")
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without an improvement after which training stops; null: a quarter of all, at least "
        f"{PATIENCE}",
    )

    def schedule(self, samples: int) -> "Schedule":
        """Return the options of a training on so many samples, those that are held out among them."""
        kept = samples - int(self.validation * samples)
        steps = max(1, kept // min(self.batch_size, kept))
        epochs = min(max(EPOCHS, -(-STEPS // steps)), MAX_EPOCHS) if self.epochs is None else self.epochs
        fifth = min(max(VIEWS[0], epochs // 5), VIEWS[1])
        return Schedule(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            augment=self.augment,
            views=min(self.views or fifth, epochs),
            patience=self.patience or max(PATIENCE, epochs // 4),
            steps_per_epoch=steps,
        )


@dataclass(frozen=True)
class Schedule:
    """How long a saver is trained on a split of some size; other attributes are as in the stanza.

    Attributes:
        views: Views of the training split that the backbone answers.
        patience: Epochs without an improvement after which training stops.
        steps_per_epoch: Training steps of one epoch.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    augment: AugmentName
    views: int
    patience: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Training steps of all epochs."""
        return self.epochs * self.steps_per_epoch


def _validate(values: Any, info: ValidationInfo) -> Any:
    """Return the stanza of a candidate: a maker has the key `make`, a model the key `source`."""
    if not isinstance(values, Mapping):
        return values
    if "make" in values:
        name = values["make"]
        stanza = MAKERS.find(name).Options if isinstance(name, str) and name in MAKERS else MakerStanza
        return stanza.model_validate(values, context=info.context)
    source = values.get("source")
    kind: type[Stanza] = ModelSource
    if isinstance(source, str) and source in MODEL_SOURCES:
        kind = find_stanza(MODEL_SOURCES, source, ModelSource)
    return kind.model_validate(values, context=info.context)


#: A candidate for a saver: a model, or a maker of some.
AnyCandidate = Annotated[SerializeAsAny[ModelSource | MakerStanza], BeforeValidator(_validate)]
