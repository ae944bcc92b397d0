"""The parts that a dynamic ONNX file is stitched of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..chain.evidence import Evidence
from ..chain.names import MEMORY
from .part import BATCH, Part


@dataclass(frozen=True)
class ModelParts:
    """The parts of a dynamic model.

    Attributes:
        savers: In the order in which they run.
        segments: The segments of the backbone in order; the last returns logits.
        exits: ``(head, i)``: an exit head on the output of segment `i`, in ascending order of `i`.
        fuse: How the answers of stages are combined.
        taps: ``i``: features (rows, W) of the output of segment `i`, for exits that take ``memory``; -1: of the last
            saver's logits. Taps with no such exit behind them are left out.
    """

    savers: Sequence[Part]
    segments: Sequence[Part]
    exits: Sequence[tuple[Part, int]]
    fuse: Evidence = Evidence()
    taps: Mapping[int, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fuse", Evidence.of(self.fuse))

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages before the final one, in the order of `thresholds`."""
        return tuple(part.name for part in self.savers) + tuple(part.name for part, _ in self.exits)

    @property
    def all(self) -> list[Part]:
        """Savers, segments, heads and taps."""
        return [*self.savers, *self.segments, *(part for part, _ in self.exits), *self.taps.values()]

    def describe(self) -> dict[str, object]:
        """Return the metadata by which `unstitch` finds the parts in a file."""

        def entry(part: Part) -> dict[str, object]:
            return {"name": part.name, "takes": part.input_names, "shape": [BATCH, *part.output_shape]}

        return {
            "savers": [entry(part) for part in self.savers],
            "segments": [entry(part) for part in self.segments],
            "exits": [{**entry(part), "behind": index} for part, index in self.exits],
            "sequence": any(MEMORY in part.input_names for part, _ in self.exits),
            "fuse": self.fuse.rule,
            **self.fuse.parameters,
        }
