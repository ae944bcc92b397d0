"""Names that the parts of every chain share."""

from typing import Literal

#: What a segment hands on to the next segment and to its exits.
HIDDEN = "hidden"
#: What a head that reads taps takes: the features of all taps up to its position, side by side.
MEMORY = "memory"
#: What the last segment, a head and a saver return.
LOGITS = "logits"
#: The last stage: the backbone's own head.
FINAL = "final"

#: How the evidence of the stages in use is combined.
Fuse = Literal["none", "mean"]
FUSES: tuple[Fuse, ...] = ("none", "mean")
