"""Names that the parts of every chain share."""

#: What a segment hands on to the next segment and to its exits.
HIDDEN = "hidden"
#: What a head that reads taps takes: the features of all taps up to its position, side by side.
MEMORY = "memory"
#: What the last segment, a head and a saver return.
LOGITS = "logits"
#: The last stage: the backbone's own head.
FINAL = "final"
