"""A backbone in segments."""

from dataclasses import dataclass

from .cuts import Cut
from .split import Segment


@dataclass
class Backbone:
    """The backbone, cut.

    Attributes:
        input_names: Of the inputs.
        classes: Number of classes C.
        cuts: The chosen cuts, by depth.
        depth: Number of cuts that the graph has, chosen or not: the final's position.
        segments: In torch, one more than `cuts`.
        dims: Free dimensions of each input of the data besides the batch: index -> name.
        fixed_length: Why the number of tokens is fixed; None where it is free or there are none.
    """

    input_names: tuple[str, ...]
    classes: int
    cuts: list[Cut]
    depth: int
    segments: list[Segment]
    dims: dict[str, dict[int, str]]
    fixed_length: str | None = None
