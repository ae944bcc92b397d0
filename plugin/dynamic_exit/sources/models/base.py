"""What every source of models provides: a builder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

from torch import nn

from ...errors import ModelError
from ...passes import ModelSource


class BuiltModel(NamedTuple):
    """A model as its source builds it.

    Attributes:
        module: What was built; `load_model` refuses what is not a `torch.nn.Module`.
        untrained: Names of the weights that are random, as far as the source can tell.
    """

    module: Any
    untrained: tuple[str, ...] = ()


class NativePreprocessing(TypedDict, total=False):
    """The preprocessing that a model was trained with.

    Attributes:
        size: ``(height, width)`` in pixels.
        interpolation: ``bilinear``, ``nearest`` or ``bicubic``; None if unknown.
        mean: Mean per channel, on the scaled range.
        std: Standard deviation per channel, on the scaled range.
        factor: Factor for pixels of 0..255; None if they are not scaled.
    """

    size: tuple[int, int]
    interpolation: str | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    factor: float | None


class ModelBuilder(ABC):
    """Builds the models of one `source` of a recipe."""

    @abstractmethod
    def build(self, source: ModelSource) -> BuiltModel:
        """Build a model, without the `weights` of its stanza.

        Raises:
            ModelError: It cannot be built.
        """

    def read_preprocessing(self, source: ModelSource, model: nn.Module) -> NativePreprocessing:
        """Return the preprocessing that the model was trained with.

        Raises:
            ModelError: The model does not state it.
        """
        raise unknown_preprocessing(source)

    @abstractmethod
    def find_matches(self, source: ModelSource) -> tuple[list[str], str]:
        """List the models whose names match the pattern `source.name`.

        Returns:
            Their names in any order, and a hint for the error message if there are none.
        """


def unknown_preprocessing(source: ModelSource) -> ModelError:
    """Return the error for a model that does not state its preprocessing."""
    return ModelError(f"model '{source.name}' does not say what input it was made for; write its `preprocessing`")
