"""What a model source provides: a builder, which makes a model and tells what is known of it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypedDict, TypeVar

from torch import nn

from ...errors import ModelError
from ...passes import MODEL_SOURCES, ModelSource
from .origin import Origin

Source = TypeVar("Source", bound=ModelSource)


class BuiltModel(NamedTuple):
    """A model as its source builds it.

    Attributes:
        module: What was built; `load_model` refuses what is not a `torch.nn.Module`.
        untrained: Names of the weights that are random, as far as the source can tell.
        keyword: Name by which the module takes its only input; None if by position.
    """

    module: Any
    untrained: tuple[str, ...] = ()
    keyword: str | None = None


class NativePreprocessing(TypedDict, total=False):
    """The preprocessing that a model was trained with.

    Attributes:
        size: ``(height, width)`` in pixels.
        resized: What images of other sizes are resized to before ``size`` is cut out of the middle, ``(height, width)``
            or the length of the shorter side; None if nothing is cut off.
        interpolation: ``bilinear``, ``nearest`` or ``bicubic``; None if unknown.
        mean: Mean per channel, on the scaled range.
        std: Standard deviation per channel, on the scaled range.
        factor: Factor for pixels of 0..255; None if they are not scaled.
    """

    size: tuple[int, int]
    resized: tuple[int, int] | int | None
    interpolation: str | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    factor: float | None


class ModelBuilder(ABC, Generic[Source]):
    """Builds one model, without the `weights` of its stanza, and tells what is known of it; only `build` is required.

    Attributes:
        source: The stanza.
        knows_untrained: Whether `BuiltModel.untrained` names all random weights; if not, a candidate without `weights`
            is built twice, and what differs is random.
    """

    knows_untrained: ClassVar[bool] = False

    def __init__(self, source: Source):
        self.source = source

    @abstractmethod
    def build(self) -> BuiltModel:
        """Build the model.

        Raises:
            ModelError: It cannot be built.
        """

    def check(self) -> None:
        """Refuse what cannot be a backbone, before any data are read.

        Raises:
            ModelError: It cannot be one.
        """

    def is_pattern(self) -> bool:
        """Whether the stanza names a pattern of several models."""
        return bool(re.search(r"[*?\[]", self.source.name)) and not Path(self.source.name).exists()

    def find_matches(self) -> tuple[list[str], str]:
        """List the models whose names match the pattern.

        Returns:
            Their names in any order, and a hint for the error message if there are none.
        """
        return [], "its source lists none, so name each model"

    def read_preprocessing(self, model: nn.Module) -> NativePreprocessing:
        """Return the preprocessing that the model was trained with.

        Raises:
            ModelError: It is unknown.
        """
        raise ModelError(
            f"model '{self.source.name}' does not say what input it was made for; write its `preprocessing`"
        )

    def find_class_names(self, model: nn.Module | None) -> list[str] | None:
        """Return the class names in the order of the logits, None if unknown; `model` is None before it is built."""
        return read_class_names(getattr(model, "config", None))

    def find_tokenizer(self) -> str | None:
        """Return the name or folder of the model's own tokenizer, as transformers loads it; None if it has none."""
        return None

    def find_origin(self) -> Origin:
        """Return where the model's own weights come from, as far as is known without the network."""
        return Origin()

    def explain_untrained(self) -> str | None:
        """Return a note for a backbone with random weights; None, the default, refuses it."""
        return None

    def fingerprint(self) -> str:
        """Return what changes with the code that builds the model, besides the model; it is a part of cache keys."""
        return ""


def find_origin(source: ModelSource) -> Origin:
    """Return where the weights of a model come from; nothing is known of those that `weights` names."""
    return Origin() if source.weights else find_builder(source).find_origin()


def find_builder(source: ModelSource) -> ModelBuilder[ModelSource]:
    """Return the builder of a model, of the kind that its `source` names."""
    builder: ModelBuilder[ModelSource] = MODEL_SOURCES.find(source.source).builder(source)
    return builder


def read_class_names(config: object) -> list[str] | None:
    """Return the class names of a transformers configuration, in the order of the logits; None without any."""
    names = getattr(config, "id2label", None)
    if not names or all(name == f"LABEL_{index}" for index, name in names.items()):
        return None
    return [str(names[index]) for index in sorted(names)]
