"""The stages of a dynamic model while a recipe runs: in torch, and as they ship."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from ..cost import node_macs
from ..graph import Classifier, Cut, Segment, capture, find_cuts, is_text, split
from ..onnx.parts import Part
from ..passes.early_exit import EarlyExitStanza, cheapest_head, choose_cuts
from ..runtime.checks import MEMORY
from ..runtime.model import DynamicExitModel

Say = Callable[[str], None]
#: What is not quantized.
FLOAT = "float"


@dataclass(frozen=True)
class Stage:
    """One piece of the model in both forms.

    Attributes:
        module: In torch, float.
        part: As it ships; parts of every target have `name`, `takes`, `gives`, `content`, `size` and `runtime`.
        session: Runs the part.
        macs: Multiply-adds per sample.
        float_part: The part before quantization.
        example: Inputs of two samples.
    """

    module: nn.Module
    part: Part
    session: nn.Module
    macs: float
    float_part: Part
    example: tuple[Tensor, ...]


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


@dataclass
class Stages:
    """All stages of a chain under construction.

    Attributes:
        input_names: Of the model's inputs.
        segments: The backbone's pieces.
        savers: By stage name, in chain order.
        exits: By stage name: the index of the segment behind which it stands, and the head.
        positions: By exit's name and ``final``: index of the cut in the whole graph.
        fuse: ``none`` or ``mean``.
        notes: What exits of a sequence network see: by index of the segment, -1 for the last saver.
        numerics: What tables call the numbers that the backbone's pieces ship in.
    """

    input_names: tuple[str, ...]
    segments: list[Stage]
    positions: dict[str, int]
    savers: dict[str, Stage] = field(default_factory=dict)
    exits: dict[str, tuple[int, Stage]] = field(default_factory=dict)
    fuse: str = "none"
    notes: dict[int, Stage] = field(default_factory=dict)
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
            notes={index: made(stage) for index, stage in self.notes.items()},
        )

    def only(self, names: Sequence[str]) -> "Stages":
        """Return the chain with only the named stages before the final, and only the inputs that they take."""
        savers = {name: stage for name, stage in self.savers.items() if name in names}
        exits = {name: pair for name, pair in self.exits.items() if name in names}
        seen = max((index for index, stage in exits.values() if MEMORY in stage.part.takes), default=-2)
        notes = {index: stage for index, stage in self.notes.items() if index <= seen}
        every = (*savers.values(), *self.segments, *(stage for _, stage in exits.values()), *notes.values())
        taken = {name for stage in every for name in stage.part.takes}
        inputs = tuple(name for name in self.input_names if name in taken)
        return Stages(inputs, self.segments, self.positions, savers, exits, self.fuse, notes, self.numerics)

    @property
    def every(self) -> tuple[Stage, ...]:
        """All pieces of the model."""
        exits = (stage for _, stage in self.exits.values())
        return (*self.savers.values(), *self.segments, *exits, *self.notes.values())

    @property
    def quantized(self) -> bool:
        """Whether any stage ships in other numbers than float."""
        return any(stage.part is not stage.float_part for stage in self.every)

    @property
    def needs(self) -> dict[str, str]:
        """Stages that are only of use behind another one: exits that build on the last saver, and its name."""
        if -1 not in self.notes:
            return {}
        base = list(self.savers)[-1]
        return {name: base for name, (_, stage) in self.exits.items() if MEMORY in stage.part.takes}

    def costs(self, cost_of: Callable[[Stage], float]) -> tuple[dict[str, float], dict[str, float]]:
        """Return own and prefix cost by stage, the final included, for a measure of one stage's cost.

        An exit of a sequence network pays its head and all notes up to it, also those that another such exit in use
        has paid for already; notes of a sample that leaves at another exit before it are not charged.
        """
        before = np.cumsum([cost_of(stage) for stage in self.segments])
        own = {name: cost_of(stage) for name, stage in self.savers.items()}
        prefix = dict.fromkeys(self.savers, 0.0)
        for name, (index, stage) in self.exits.items():
            seen = self.notes if MEMORY in stage.part.takes else {}
            own[name] = cost_of(stage) + sum(cost_of(note) for place, note in seen.items() if place <= index)
            prefix[name] = float(before[index])
        return {**own, "final": 0.0}, {**prefix, "final": float(before[-1])}


def cut_backbone(
    classifier: Classifier,
    example: Mapping[str, Tensor],
    exits: EarlyExitStanza | None,
    say: Say = lambda line: None,
) -> Backbone:
    """Capture a backbone and cut it where exits are wanted.

    Args:
        classifier: In evaluation mode.
        example: Inputs of at least two samples, by name.
        exits: Where; None leaves the backbone in one piece.
        say: Takes a line for each position that can never pay.

    Returns:
        The backbone in segments.

    Raises:
        CaptureError: The graph cannot be captured.
        CutError: It has no usable cut, or a name is unknown.
    """
    program = capture(classifier, classifier.select(example))
    macs = node_macs(program.graph_module, program.example_inputs)
    cuts = find_cuts(program, macs)
    chosen = []
    if exits:
        head_share = cheapest_head(exits.entries, program.classes, sum(macs.values()))
        chosen = choose_cuts(cuts, exits.positions, exits.count, head_share, say)
    names = tuple(classifier.takes or program.input_names)
    shapes = {name: program.shapes[node.name] for name, node in zip(names, program.placeholders, strict=True)}
    segments = split(program, chosen)
    return Backbone(
        names, program.classes, chosen, len(cuts), segments, _free_dims(shapes, example), program.fixed_length
    )


def _free_dims(shapes: Mapping[str, Sequence[int | str]], example: Mapping[str, Tensor]) -> dict[str, dict[int, str]]:
    """Find the free dimensions of all inputs: those that the backbone does not take are as long as those it takes."""
    lengths = {
        example[name].shape[1]: shape[1]
        for name, shape in reversed(shapes.items())
        if len(shape) == 2 and isinstance(shape[1], str)
    }
    return {
        name: {1: lengths[tensor.shape[1]]} if is_text(tensor) and tensor.shape[1] in lengths else {}
        for name, tensor in example.items()
    }
