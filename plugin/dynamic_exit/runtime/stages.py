"""The stages of a model while a run builds it: each one as a torch module and as the part that is exported of it."""

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

from torch import Tensor, nn

from ..chain.evidence import Evidence
from ..chain.names import FINAL, MEMORY
from ..chain.spec import BEFORE_ALL, ChainSpec, StageSpec, TapSpec, by_role
from ..cost import ChainCost, ExitCost, chain_cost
from .model import DynamicExitModel

#: What tables call numbers that are not quantized.
FLOAT = "float"

Key = TypeVar("Key")
Value = TypeVar("Value")


class NamedPart(Protocol):
    """What a chain knows of a part."""

    @property
    def name(self) -> str:
        """Unique among the parts of a model."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs: ``hidden`` is the output of the previous segment, else an input of the model."""

    @property
    def output_kind(self) -> str:
        """What the output is: ``hidden``, ``memory`` or ``logits``."""


class ExportedPart(NamedPart, Protocol):
    """What a stage is exported as; every target has a class of its own."""

    @property
    def content(self) -> bytes:
        """The part as it is written to a file."""

    @property
    def size(self) -> int:
        """Bytes of `content`."""

    @property
    def runtime(self) -> str:
        """Name and version of what runs the part."""

    @property
    def oldest_runtime(self) -> tuple[int, ...]:
        """The first version of it that takes the part; empty if unknown."""


@dataclass(frozen=True)
class Stage:
    """One saver, segment, exit head or tap.

    Attributes:
        module: In torch, in float.
        part: The exported part, quantized where the recipe says so.
        session: Runs `part`.
        macs: Multiply-adds per sample.
        float_part: The exported part before quantization; the same object as `part` if nothing was quantized.
        example: Inputs of two samples, in the order of the part's input names.
    """

    module: nn.Module
    part: ExportedPart
    session: nn.Module
    macs: float
    float_part: ExportedPart
    example: tuple[Tensor, ...]


def _frozen(mapping: Mapping[Key, Value]) -> Mapping[Key, Value]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True)
class StageSet:
    """All stages of a model. It never changes: `add_savers`, `add_exits` and `select` return a new one.

    Attributes:
        input_names: Names of the model's inputs.
        segments: The backbone's segments, in order.
        positions: By exit's name and ``final``: index of the cut among all cuts of the graph.
        savers: By stage name, in chain order.
        exits: By stage name: index of the segment after which the exit stands, and its head.
        fuse: How the answers of stages are combined.
        taps: What exits of a sequence network read, by index of the segment after which a tap stands; -1 for the tap
            on the last saver's logits.
        numerics: What tables call the numbers of the backbone's segments, such as ``int8``.
        in_place: Name of the saver or exit that is the last segment, in the place of the backbone's own head; None for
            the backbone.
    """

    input_names: tuple[str, ...]
    segments: tuple[Stage, ...]
    positions: Mapping[str, int]
    savers: Mapping[str, Stage] = field(default_factory=dict)
    exits: Mapping[str, tuple[int, Stage]] = field(default_factory=dict)
    fuse: Evidence = Evidence()
    taps: Mapping[int, Stage] = field(default_factory=dict)
    numerics: str = FLOAT
    in_place: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fuse", Evidence.of(self.fuse).of_stages(self.chain))
        for name in ("positions", "savers", "exits", "taps"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        object.__setattr__(self, "segments", tuple(self.segments))

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the stages before the final, in the order of thresholds."""
        return (*self.savers, *self.exits)

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """Every stage: savers, segments, exits, taps."""
        exits = (stage for _, stage in self.exits.values())
        return (*self.savers.values(), *self.segments, *exits, *self.taps.values())

    @property
    def quantized(self) -> bool:
        """Whether any stage is quantized."""
        return any(stage.part is not stage.float_part for stage in self.all_stages)

    @property
    def spec(self) -> ChainSpec:
        """What the chain consists of."""
        places = {**dict.fromkeys(self.savers, BEFORE_ALL), **{name: place for name, (place, _) in self.exits.items()}}
        parts = {**self.savers, **{name: stage for name, (_, stage) in self.exits.items()}}
        return ChainSpec(
            inputs=self.input_names,
            segments=tuple(stage.part.input_names for stage in self.segments),
            stages=tuple(
                StageSpec(name=name, position=place, inputs=parts[name].part.input_names)
                for name, place in places.items()
            ),
            taps=tuple(
                TapSpec(position=place, inputs=stage.part.input_names) for place, stage in sorted(self.taps.items())
            ),
            evidence=self.fuse.rule,
            **self.fuse.parameters,
        )

    @property
    def by_role(self) -> dict[str, Stage]:
        """Every stage by its role in the chain, as `chain.spec.by_role` names them."""
        heads, taps = (stage for _, stage in self.exits.values()), (self.taps[place] for place in sorted(self.taps))
        return by_role(self.segments, self.savers.values(), heads, taps)

    def add_savers(self, savers: Mapping[str, Stage], fuse: Evidence) -> "StageSet":
        """Return the set with further savers.

        Args:
            savers: By stage name, cheapest first; they follow those that are there.
            fuse: How answers are combined from now on.
        """
        return dataclasses.replace(self, savers={**self.savers, **savers}, fuse=fuse)

    def with_evidence(self, fuse: Evidence) -> "StageSet":
        """Return the set whose answers are combined in another way."""
        return dataclasses.replace(self, fuse=fuse)

    def add_exits(
        self,
        exits: Mapping[str, tuple[int, Stage]],
        positions: Mapping[str, int],
        taps: Mapping[int, Stage] = MappingProxyType({}),
    ) -> "StageSet":
        """Return the set with further exits.

        Args:
            exits: By stage name: index of the segment after which the exit stands, and its head.
            positions: Of each exit: index of its cut among all cuts of the graph.
            taps: What exits of a sequence network read, as `taps` of this class.
        """
        return dataclasses.replace(
            self,
            exits={**self.exits, **exits},
            positions={**self.positions, **positions},
            taps={**self.taps, **taps},
        )

    def select(self, names: Sequence[str]) -> "StageSet":
        """Return the set with only the named stages before the final, and only the inputs that they take."""
        savers = {name: stage for name, stage in self.savers.items() if name in names}
        exits = {name: pair for name, pair in self.exits.items() if name in names}
        last = max((index for index, stage in exits.values() if MEMORY in stage.part.input_names), default=-2)
        taps = {index: stage for index, stage in self.taps.items() if index <= last}
        kept = dataclasses.replace(self, savers=savers, exits=exits, taps=taps)
        used = {name for stage in kept.all_stages for name in stage.part.input_names}
        return dataclasses.replace(kept, input_names=tuple(name for name in self.input_names if name in used))

    def end_at(self, name: str, before: Sequence[str]) -> "StageSet":
        """Return the chain that ends at one of its stages, which answers as the final what gets so far.

        Args:
            name: A saver, which is then the only segment, or an exit that reads no taps.
            before: Names of the stages that remain before it.
        """
        if name in self.savers:
            stage, kept = self.savers[name], 0
            numerics = FLOAT if stage.part is stage.float_part else self.numerics
        else:
            place, stage = self.exits[name]
            kept, numerics = place + 1, self.numerics
        return dataclasses.replace(
            self.select(before),
            input_names=self.input_names,
            segments=(*self.segments[:kept], stage),
            positions={key: at for key, at in self.positions.items() if key in (*before, FINAL)},
            numerics=numerics,
            in_place=name,
        )

    def model(self, form: str | Callable[[Stage], nn.Module]) -> DynamicExitModel:
        """Return the dynamic model of these stages.

        Args:
            form: ``module`` (torch, in float), ``session`` (what is exported), or what makes a module of a stage.
        """
        made = form if callable(form) else operator.attrgetter(form)
        return DynamicExitModel(
            [made(stage) for stage in self.segments],
            input_names=self.input_names,
            savers={name: made(stage) for name, stage in self.savers.items()},
            exits={name: (index, made(stage)) for name, (index, stage) in self.exits.items()},
            fuse=self.fuse,
            taps={index: made(stage) for index, stage in self.taps.items()},
        )

    def costs(self, cost_of: Callable[[Stage], float], unit: str = "macs") -> ChainCost:
        """Return own and prefix cost by stage name.

        Args:
            cost_of: Cost of one stage per sample.
            unit: ``macs`` or ``seconds``.
        """
        return chain_cost(
            {name: cost_of(stage) for name, stage in self.savers.items()},
            [cost_of(stage) for stage in self.segments],
            {
                name: ExitCost(place, cost_of(stage), MEMORY in stage.part.input_names)
                for name, (place, stage) in self.exits.items()
            },
            {place: cost_of(tap) for place, tap in self.taps.items()},
            unit,
        )
