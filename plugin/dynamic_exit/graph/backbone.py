"""A backbone that is cut into segments."""

from dataclasses import dataclass

from .cuts import Cut
from .program import Program
from .split import Segment


@dataclass
class Backbone:
    """A backbone, its cuts and its segments.

    Attributes:
        input_names: Names of its inputs, in order.
        classes: Number of classes C.
        cuts: The chosen cuts, by depth.
        depth: Number of cuts of the graph, chosen or not: the position of the final stage.
        segments: In torch, one more than `cuts`.
        dims: Free dimensions of each input of the data besides the batch: index -> name.
        program: The whole graph.
        fixed_length: Why the number of tokens is fixed; None if it is free or there are none.
    """

    input_names: tuple[str, ...]
    classes: int
    cuts: list[Cut]
    depth: int
    segments: list[Segment]
    dims: dict[str, dict[int, str]]
    program: Program
    fixed_length: str | None = None
