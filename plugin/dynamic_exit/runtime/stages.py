"""The stages of a dynamic model under construction: in torch, and as they are exported."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..chain.names import FINAL, MEMORY
from .model import DynamicExitModel

#: What is not quantized.
FLOAT = "float"


@dataclass(frozen=True)
class Stage:
    """One piece of the model in both forms.

    Attributes:
        module: In torch, float.
        part: As it is exported; parts of every target have `name`, `input_names`, `output_kind`, `content`, `size`
            and `runtime`.
        session: Runs the part.
        macs: Multiply-adds per sample.
        float_part: The part before quantization.
        example: Inputs of two samples.
    """

    module: nn.Module
    part: Any
    session: nn.Module
    macs: float
    float_part: Any
    example: tuple[Tensor, ...]


@dataclass
class StageSet:
    """All stages of a chain under construction.

    Attributes:
        input_names: Of the model's inputs.
        segments: The backbone's pieces.
        savers: By stage name, in chain order.
        exits: By stage name: the index of the segment behind which it stands, and the head.
        positions: By exit's name and ``final``: index of the cut in the whole graph.
        fuse: ``none`` or ``mean``.
        taps: What exits of a sequence network read: by index of the segment, -1 for the last saver.
        numerics: What tables call the numbers that the backbone's pieces ship in.
    """

    input_names: tuple[str, ...]
    segments: list[Stage]
    positions: dict[str, int]
    savers: dict[str, Stage] = field(default_factory=dict)
    exits: dict[str, tuple[int, Stage]] = field(default_factory=dict)
    fuse: str = "none"
    taps: dict[int, Stage] = field(default_factory=dict)
    numerics: str = FLOAT

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the stages before the final, in the order of thresholds."""
        return (*self.savers, *self.exits)

    def model(self, form: str | Callable[[Stage], nn.Module]) -> DynamicExitModel:
        """Return the dynamic model of these stages.

        Args:
            form: ``module`` (torch), ``session`` (what ships), or what makes a module of a stage.
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

    def only(self, names: Sequence[str]) -> "StageSet":
        """Return the chain with only the named stages before the final, and only the inputs that they take."""
        savers = {name: stage for name, stage in self.savers.items() if name in names}
        exits = {name: pair for name, pair in self.exits.items() if name in names}
        seen = max((index for index, stage in exits.values() if MEMORY in stage.part.input_names), default=-2)
        taps = {index: stage for index, stage in self.taps.items() if index <= seen}
        every = (*savers.values(), *self.segments, *(stage for _, stage in exits.values()), *taps.values())
        taken = {name for stage in every for name in stage.part.input_names}
        inputs = tuple(name for name in self.input_names if name in taken)
        return StageSet(inputs, self.segments, self.positions, savers, exits, self.fuse, taps, self.numerics)

    @property
    def every(self) -> tuple[Stage, ...]:
        """All pieces of the model."""
        exits = (stage for _, stage in self.exits.values())
        return (*self.savers.values(), *self.segments, *exits, *self.taps.values())

    @property
    def quantized(self) -> bool:
        """Whether any stage ships in other numbers than float."""
        return any(stage.part is not stage.float_part for stage in self.every)

    @property
    def requires(self) -> dict[str, str]:
        """Stages that are only of use behind another one: exits that build on the last saver, and its name."""
        if -1 not in self.taps:
            return {}
        base = list(self.savers)[-1]
        return {name: base for name, (_, stage) in self.exits.items() if MEMORY in stage.part.input_names}

    def costs(self, cost_of: Callable[[Stage], float]) -> tuple[dict[str, float], dict[str, float]]:
        """Return own and prefix cost by stage, the final included, for a measure of one stage's cost.

        An exit of a sequence network is charged for its head and for all taps up to its position, including taps that
        an earlier such exit has paid for already; a sample that leaves at an earlier exit pays for no later taps.
        """
        before = np.cumsum([cost_of(stage) for stage in self.segments])
        own = {name: cost_of(stage) for name, stage in self.savers.items()}
        prefix = dict.fromkeys(self.savers, 0.0)
        for name, (index, stage) in self.exits.items():
            seen = self.taps if MEMORY in stage.part.input_names else {}
            own[name] = cost_of(stage) + sum(cost_of(tap) for place, tap in seen.items() if place <= index)
            prefix[name] = float(before[index])
        return {**own, FINAL: 0.0}, {**prefix, FINAL: float(before[-1])}
