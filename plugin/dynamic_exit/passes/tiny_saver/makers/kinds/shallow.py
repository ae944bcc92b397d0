"""Copies of the backbone's first blocks with a head, trained as a whole."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from .....cost import node_macs
from .....errors import CutError, PassError
from .....graph import Classifier, Cut, Program, capture, find_cuts, split
from .....graph.split import Segment
from ....early_exit.heads import ExitHead, build_head
from ....early_exit.heads.base import HEADS
from ....early_exit.heads.feature_layout import is_padded_left
from ....kinds import check_registered
from ..base import Architecture
from ..stanza import TrainedMakerStanza
from ..trained import TrainedMaker


class ShallowStanza(TrainedMakerStanza):
    """The backbone's first blocks, up to the last cut that fits the share, and an exit head behind them."""

    shares: list[float] = Field([0.2, 0.4], min_length=1, description="costs, as shares of the backbone's")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate of AdamW, after a warm-up and before cosine decay")
    epochs: int = Field(10, ge=1, description="passes over the training split")
    head: str = Field("linear", description="kind of the exit head")

    @field_validator("head")
    @classmethod
    def _check_head(cls, head: str) -> str:
        return check_registered(head, HEADS)


class ShallowMaker(TrainedMaker):
    """Makes shallow copies of any backbone that can be cut."""

    Options = ShallowStanza

    @classmethod
    def suits(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether there are inputs: whether the backbone can be cut shows when it is."""
        return bool(inputs)

    @classmethod
    def is_automatic(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return False: training a part of the backbone takes long, and other savers are cheaper."""
        return False

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the backbone's inputs."""
        return tuple(self._classifier.input_names or self.task.inputs)

    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return all cuts, by depth."""
        return [{"cut": cut.name} for cut in self._cuts]

    def build(self, architecture: Architecture) -> nn.Module:
        """Build a copy up to a cut, with the backbone's weights, and an untrained head."""
        cut = next(each for each in self._cuts if each.name == architecture["cut"])
        first = copy.deepcopy(split(self._program, [cut])[0])
        names = self._program.input_names
        masks = [
            name
            for name, given in zip(names, self.input_names, strict=True)
            if given.endswith("mask") and self.task.inputs[given].dim() == 2
        ]
        mask = masks[0] if masks and len(cut.shape) == 2 else None
        try:
            left = mask is not None and is_padded_left(self.task.inputs[self.input_names[names.index(mask)]])
            head = build_head(
                self.stanza.head, cut.shape, self.task.classes, cut=cut.name, mask=mask, class_token=not left
            )
        except PassError as error:
            raise PassError(f"maker 'shallow' cannot end at cut '{cut.name}': {error}") from error
        return Shallow(first, head, names)

    def prepare(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        """Let the head see hidden states of some samples."""
        assert isinstance(model, Shallow)
        with torch.no_grad():
            model.head.prepare(model.head.features(*model.hidden([inputs[name] for name in self.input_names])))

    @property
    def _classifier(self) -> Classifier:
        assert isinstance(self.task.backbone, Classifier)
        return self.task.backbone

    @cached_property
    def _program(self) -> Program:
        example = {name: tensor[:2] for name, tensor in self.task.inputs.items()}
        return capture(self._classifier, self._classifier.select(example))

    @cached_property
    def _cuts(self) -> list[Cut]:
        program = self._program
        cuts = find_cuts(program, node_macs(program.graph_module, program.example_inputs))
        if not cuts:
            raise CutError("maker 'shallow' needs a backbone that can be cut, and this one has no cut; name others")
        return cuts


class Shallow(nn.Module):
    """The first segment of a backbone, and a head.

    Args:
        first: From the backbone's inputs to the hidden state.
        head: From the hidden state, and its mask if it takes one, to logits.
        input_names: Names by which `first` and `head` know the backbone's inputs, in order.
    """

    def __init__(self, first: Segment, head: ExitHead, input_names: Sequence[str]):
        super().__init__()
        self.first, self.head = first, head
        self._names = tuple(input_names)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map the backbone's inputs, batch first, to logits (N, C)."""
        return self.head(*self.hidden(inputs))

    def hidden(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return what the head takes: the hidden state, and its mask if it takes one."""
        values = dict(zip(self._names, inputs, strict=True))
        hidden = self.first(*(values[name] for name in self.first.input_names))
        return [hidden, *(values[name] for name in self.head.input_names[1:])]


KIND = ShallowMaker
