"""The stanza of masked pre-training."""

from typing import Literal

from pydantic import Field

from ..stanza import Stanza


class PretrainStanza(Stanza):
    """Masked pre-training: segments of the inputs are masked, and the network learns to fill them in."""

    epochs: int = Field(50, ge=1, description="passes over the samples, labels or not")
    mask: float = Field(0.5, gt=0, lt=1, description="share of the segments that is masked, others in each epoch")
    segment: int = Field(8, ge=2, description="positions of a segment; of images its side, in pixels")
    batch_size: int = Field(32, ge=2, description="samples per step at least, if there are as many")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate of AdamW, after a warm-up and before cosine decay")
    weight_decay: float = Field(1e-4, ge=0, description="of AdamW")

    @property
    def augment(self) -> Literal["none"]:
        """Samples are masked, and not changed otherwise."""
        return "none"
