"""What a maker is: it makes savers of one family from a model and its data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ...training import TrainingRun
from .stanza import MakerStanza
from .teaching import Teaching

#: What a saver is built from, as JSON: layers, widths and constants, but no trained weights.
Architecture = Mapping[str, Any]


@dataclass(frozen=True)
class MakerTask:
    """What a maker knows of the samples and the backbone before it makes anything.

    Attributes:
        inputs: The training split's inputs by name, each (N, ...), uint8, float or integer as the backbone takes them.
        classes: Number of classes C.
        backbone: The classifier that is the teacher, in float and evaluation mode.
    """

    inputs: Mapping[str, Tensor]
    classes: int
    backbone: nn.Module


class MadeSaver(NamedTuple):
    """A trained saver, and what an untrained one like it is built from."""

    architecture: Architecture
    model: nn.Module


class SaverMaker(ABC):
    """Base of makers.

    Args:
        stanza: An instance of the maker's `Options`.
        task: Samples and backbone.

    Attributes:
        Options: The stanza of the maker's options in a recipe; each field has a default.
        takes: The inputs that it suits, for messages.
        prunes: Whether what `fit` returns may cost less than its architecture.
    """

    Options: ClassVar[type[MakerStanza]] = MakerStanza
    takes: ClassVar[str] = "other inputs"
    prunes: ClassVar[bool] = False

    def __init__(self, stanza: Any, task: MakerTask):
        self.stanza, self.task = stanza, task

    @classmethod
    @abstractmethod
    def suits(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether the maker makes savers for inputs like these, by name, each (N, ...)."""

    @classmethod
    def is_automatic(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether `make: auto` takes it for inputs that it suits."""
        return True

    @property
    @abstractmethod
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs that its savers take, in order."""

    @abstractmethod
    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return what could be made for a share of the backbone's cost, from the cheapest to the most expensive.

        The most expensive one that fits is made; an untrained model of it is measured as it would be exported.
        """

    @abstractmethod
    def build(self, architecture: Architecture) -> nn.Module:
        """Build an untrained model: from the inputs that `input_names` names, batch first, to logits (N, C)."""

    @property
    def views_taught(self) -> int:
        """Views of the training split that the backbone answers; each is answered once for all savers."""
        return 1

    def training_steps(self, samples: int) -> tuple[int, int]:
        """Return the number of training steps for so many samples, 0 for none, and samples in each."""
        return 0, samples

    @abstractmethod
    def fit(self, architecture: Architecture, teaching: Teaching, run: TrainingRun) -> MadeSaver:
        """Train a model.

        Args:
            architecture: One of `architectures`.
            teaching: The training split, and what the backbone answers on views of it.
            run: Seed, name for messages, and deadline.

        Returns:
            The model in evaluation mode, and the architecture from which `build` makes one that its weights fit.

        Raises:
            PassError: The samples do not suffice, or the training failed.
        """
