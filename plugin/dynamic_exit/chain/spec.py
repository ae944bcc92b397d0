"""What a chain consists of: the names, places and inputs of its parts and its evidence rule, to and from JSON."""

from collections.abc import Iterable
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from .confidence import ConfidenceName, Gate
from .evidence import Evidence, EvidenceName
from .names import FINAL, MEMORY

#: Position of a saver, which runs before all segments, and of the tap that reads the last saver's logits.
BEFORE_ALL = -1

Part = TypeVar("Part")


def by_role(
    segments: Iterable[Part], savers: Iterable[Part], exits: Iterable[Part], taps: Iterable[Part] = ()
) -> dict[str, Part]:
    """Name the parts of a chain by their role, as files are: ``segment0``, ``saver0``, ``exit0``, ``tap0``, ...

    Args:
        segments: In order.
        savers: In chain order.
        exits: In chain order.
        taps: By position.
    """
    kinds = {"segment": segments, "saver": savers, "exit": exits, "tap": taps}
    return {f"{kind}{index}": each for kind, found in kinds.items() for index, each in enumerate(found)}


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageSpec(_Spec):
    """A stage before the final one.

    Attributes:
        name: Unique in its chain.
        position: Index of the segment behind which an exit stands; -1 for a saver.
        inputs: Names of its inputs: ``hidden``, ``memory`` (the features of all taps so far), or inputs of the model.
    """

    name: str
    position: int
    inputs: tuple[str, ...]

    @property
    def kind(self) -> Literal["saver", "exit"]:
        """What the stage is."""
        return "saver" if self.position == BEFORE_ALL else "exit"


class TapSpec(_Spec):
    """What computes features for the exits behind it.

    Attributes:
        position: Index of the segment that it reads; -1 for the last saver's logits.
        inputs: Names of its inputs, as of a stage.
    """

    position: int
    inputs: tuple[str, ...]


class ChainSpec(_Spec):
    """A chain: savers, then the backbone's segments with the exits between them.

    Attributes:
        inputs: Names of the model's inputs, in order.
        segments: Names of the inputs of each segment; ``hidden`` is what the segment before returned.
        stages: The stages before the final one: savers, then exits by position.
        taps: By position.
        evidence: Name of the evidence rule.
        confidence: Name of the confidence rule.
        powers: Stage -> its power in the evidence, of those that do not count as much as the others.
        gates: Stage -> its gate, where confidence is learned.
    """

    inputs: tuple[str, ...]
    segments: tuple[tuple[str, ...], ...]
    stages: tuple[StageSpec, ...] = ()
    taps: tuple[TapSpec, ...] = ()
    evidence: EvidenceName = "none"
    confidence: ConfidenceName = "top1"
    powers: dict[str, float] = {}
    gates: dict[str, Gate] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        names, places = self.names, [stage.position for stage in self.stages]
        if not self.inputs or not self.segments:
            raise ValueError("a chain needs inputs and segments")
        if len({*names, FINAL}) <= len(names):
            raise ValueError(f"stages must have names of their own, and none is called '{FINAL}'")
        if places != sorted(places) or not all(BEFORE_ALL <= place < len(self.segments) - 1 for place in places):
            raise ValueError("stages must be in order, savers first, and exits between segments")
        taps = [tap.position for tap in self.taps]
        if taps != sorted(set(taps)) or not all(BEFORE_ALL <= place < len(self.segments) for place in taps):
            raise ValueError("taps must be in order, each at the saver or a segment of its own")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stages before the final one, in the order of thresholds."""
        return tuple(stage.name for stage in self.stages)

    @property
    def savers(self) -> tuple[StageSpec, ...]:
        """The savers, in the order in which they run."""
        return tuple(stage for stage in self.stages if stage.kind == "saver")

    @property
    def exits(self) -> tuple[StageSpec, ...]:
        """The exits, by position."""
        return tuple(stage for stage in self.stages if stage.kind == "exit")

    @property
    def requires(self) -> dict[str, str]:
        """Exit -> the saver that must run wherever the exit is in use, for exits that read the last saver's tap."""
        if not any(tap.position == BEFORE_ALL for tap in self.taps):
            return {}
        base = self.savers[-1].name
        return {stage.name: base for stage in self.stages if MEMORY in stage.inputs}

    @property
    def fuse(self) -> Evidence:
        """How the answers of stages are combined."""
        return Evidence.from_parameters(self.evidence, self.confidence, self.powers, self.gates)

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """Role of every part -> names of its inputs."""
        savers, exits = ((each.inputs for each in stages) for stages in (self.savers, self.exits))
        return by_role(self.segments, savers, exits, (tap.inputs for tap in self.taps))
