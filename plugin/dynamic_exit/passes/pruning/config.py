"""The stanza of the pruning pass."""

from typing import Literal

from pydantic import Field

from ..registry import register_pass
from ..stanza import Stanza


class FineTune(Stanza):
    """Training after pruning, on the training split."""

    epochs: int = Field(2, ge=0, description="passes over the training split")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule of AdamW")
    batch_size: int = Field(64, ge=1, description="samples in a step")


@register_pass("pruning")
class PruningStanza(Stanza):
    """Structured pruning: removes whole channels, smallest norm first, then fine-tunes."""

    method: Literal["structured"] = Field("structured", description="whole channels, so that any runtime gains")
    ratio: float = Field(0.3, ge=0, lt=1, description="share of channels removed from every layer")
    fine_tune: FineTune = Field(FineTune(), description="training after pruning; epochs: 0 turns it off")
