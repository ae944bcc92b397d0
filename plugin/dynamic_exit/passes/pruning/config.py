"""The stanza of the pruning pass."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from ..choices import AUGMENTS, AugmentName
from ..registry import register_pass
from ..stanza import Stanza, refuse

ImportanceName = Literal["magnitude_l2", "magnitude_l1", "bn_scale", "lamp", "fpgm", "taylor", "random"]
#: Description of the stanza's field.
_MEASURES = (
    "how channels are ranked: by the l2 or l1 norm of all weights that depend on them, the scale of their batch norm, "
    "lamp, distance from the geometric median, first-order effect on the loss (needs samples), or at random"
)


class FineTune(Stanza):
    """Fine-tuning after pruning, on the training split."""

    epochs: int = Field(2, ge=0, description="passes over the training split after the last step")
    step_epochs: int = Field(1, ge=0, description="passes over it after each earlier step")
    batch_size: int = Field(64, ge=2, description="samples per step of the optimizer at least, if there are as many")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate of AdamW, after a warm-up and before cosine decay")
    weight_decay: float = Field(1e-4, ge=0, description="of AdamW")
    distillation: float = Field(0.5, ge=0, le=1, description="share of the loss that follows the unpruned model")
    temperature: float = Field(2.0, gt=0, le=100, description="of both logits where the unpruned model is followed")
    augment: AugmentName = Field("none", description=AUGMENTS)


@register_pass("pruning")
class PruningStanza(Stanza):
    """Structured pruning: removes whole channels and attention heads, the least important first, then fine-tunes."""

    method: Literal["structured"] = Field("structured", description="whole channels, so that any runtime gains")
    scope: Literal["layer", "global"] = Field(
        "layer", description="layer: every layer loses the same share; global: the channels of all layers compete"
    )
    ratio: float | None = Field(0.3, ge=0, lt=1, description="share of the channels to remove; null with `target_cost`")
    target_cost: float | None = Field(
        None, gt=0, lt=1, description="instead of `ratio`: maximum share of the backbone's multiply-adds that remains"
    )
    max_ratio: float = Field(
        0.9, gt=0, lt=1, description="maximum share to remove from one layer, or `ratio` if larger"
    )
    importance: ImportanceName = Field("magnitude_l2", description=_MEASURES)
    attention: Literal["heads", "keep"] = Field("heads", description="heads: remove whole heads; keep: remove none")
    round_to: int = Field(1, ge=1, description="the channels left in a layer are a multiple of this")
    steps: int = Field(1, ge=1, description="rounds of pruning, with fine-tuning after each")
    ignored_layers: list[str] = Field([], description="modules that keep all outputs, with everything inside them")
    fine_tune: FineTune = Field(FineTune(), description="training after pruning; epochs: 0 turns it off")

    @model_validator(mode="before")
    @classmethod
    def _target_cost_replaces_ratio(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("target_cost") is not None:
            return {"ratio": None, **values}
        return values

    @model_validator(mode="after")
    def _exactly_one_goal(self) -> "PruningStanza":
        if self.ratio is not None and self.target_cost is not None:
            raise refuse(f"has both `ratio` {self.ratio:g} and `target_cost` {self.target_cost:g}; give one of them")
        if self.ratio is None and self.target_cost is None:
            raise refuse("has neither `ratio` nor `target_cost`; give one of them")
        return self
