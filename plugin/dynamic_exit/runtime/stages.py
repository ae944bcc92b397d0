"""The stages of a dynamic model under construction, in torch and as they are exported."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..chain.names import FINAL, MEMORY
from .model import DynamicExitModel

#: Name of what is not quantized.
FLOAT = "float"


@dataclass(frozen=True)
class Stage:
    """One saver, segment, tap or exit head, in torch and as it is exported.

    Attributes:
        module: The torch module, in float.
        part: As it is exported; parts of every target have `name`, `input_names`, `output_kind`, `content`, `size`
            and `runtime`.
        session: Module that runs the part.
        macs: Multiply-adds per sample.
        float_part: The part before quantization.
        example: Its inputs for two samples.
    """

    module: nn.Module
    part: Any
    session: nn.Module
    macs: float
    float_part: Any
    example: tuple[Tensor, ...]


@dataclass
class StageSet:
    """The stages of a chain under construction.

    Attributes:
        input_names: Names of the model's inputs, in order.
        segments: The segments of the backbone.
        savers: By stage name, in chain order.
        exits: By stage name: the index of the segment that the head reads, and the head.
        positions: By name of an exit or ``final``: index of the cut in the whole graph.
        fuse: ``none`` or ``mean``.
        taps: What exits of a sequence network read: by index of the segment, -1 for the last saver.
        numerics: Numerics of the exported segments, as tables call them.
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
            form: ``module`` (in torch), ``session`` (as it is exported), or a function from a stage to a module.
        """
        module_of = form if callable(form) else operator.attrgetter(form)
        return DynamicExitModel(
            [module_of(stage) for stage in self.segments],
            input_names=self.input_names,
            savers={name: module_of(stage) for name, stage in self.savers.items()},
            exits={name: (index, module_of(stage)) for name, (index, stage) in self.exits.items()},
            fuse=self.fuse,
            taps={index: module_of(stage) for index, stage in self.taps.items()},
        )

    def only(self, names: Sequence[str]) -> "StageSet":
        """Return the chain with only the named stages before the final one, and with only the inputs that it takes."""
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
        """All savers, segments, heads and taps."""
        exits = (stage for _, stage in self.exits.values())
        return (*self.savers.values(), *self.segments, *exits, *self.taps.values())

    @property
    def quantized(self) -> bool:
        """Whether any stage is quantized."""
        return any(stage.part is not stage.float_part for stage in self.every)

    @property
    def requires(self) -> dict[str, str]:
        """For each exit that reads the last saver's logits, the name of that saver."""
        if -1 not in self.taps:
            return {}
        base = list(self.savers)[-1]
        return {name: base for name, (_, stage) in self.exits.items() if MEMORY in stage.part.input_names}

    def costs(self, cost_of: Callable[[Stage], float]) -> tuple[dict[str, float], dict[str, float]]:
        """Return own and prefix cost by stage, the final stage included, for a cost of one stage.

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
