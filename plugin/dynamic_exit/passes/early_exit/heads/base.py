"""The base class of exit heads and their registry."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from ....chain.names import HIDDEN
from ....core.registry import Registry
from ....errors import PassError
from ...stanza import Stanza
from .feature_layout import FeatureLayout
from .pooling import Identity, Standardize

#: A name that no kind of head can have: exits of the sequence network are called ``cut:sequence``.
SEQUENCE = "sequence"


class ExitHead(nn.Module, ABC):
    """Base of exit heads: fixed `features`, computed once per sample and cached, and a trained `answer`.

    Args:
        features: Module without trained parameters, from the hidden state (N, ...), and its mask (N, L) if there is
            one, to the input of `answer`. Heads at one cut share the cache of features with the same ``key``. None
            means the hidden state unchanged.

    Attributes:
        Options: Stanza of the options in a recipe; each field has a default.
        input_names: Names of the arguments of ``forward``: ``hidden``, and the model's input that is its mask.
        dynamic_dims: For each of `input_names`, its dynamic dimensions besides batch: index -> name.
    """

    Options: type[Stanza] = Stanza
    features: nn.Module
    input_names: tuple[str, ...] = (HIDDEN,)
    dynamic_dims: tuple[dict[int, str], ...] = ({},)

    def __init__(self, features: nn.Module | None = None):
        super().__init__()
        self.features = Identity() if features is None else features

    @abstractmethod
    def answer(self, features: Tensor) -> Tensor:
        """Map features to logits (N, C)."""

    def prepare(self, features: Tensor) -> None:
        """Look at the features of some training samples before training; by default this fits every `Standardize`."""
        for module in self.modules():
            if isinstance(module, Standardize):
                module.fit(features)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Map the tensors named by `input_names`, batch first, to logits (N, C)."""
        return self.answer(self.features(*tensors))


def _check_head(name: str, head: object) -> None:
    if not (isinstance(head, type) and issubclass(head, ExitHead)):
        raise PassError(f"exit head '{name}' must be a subclass of ExitHead; got {head!r}")


#: The classes of heads by the name that recipes use; the name of an entry point is the name of its head.
HEADS: Registry[type[ExitHead]] = Registry(
    "exit head", PassError, "dynamic_exit.heads", reserved={SEQUENCE: "the sequence network"}, check=_check_head
)
HeadType = TypeVar("HeadType", bound=type[ExitHead])


def register_head(name: str) -> Callable[[HeadType], HeadType]:
    """Register an `ExitHead` class under the name that recipes use.

    The class is called as ``Head(layout, classes, **options)`` with a `FeatureLayout` and the fields of its
    ``Options``; the head maps (N, *layout.shape) to logits (N, classes).

    Args:
        name: An identifier that is not in use yet.

    Returns:
        A class decorator.

    Raises:
        PassError: The name is no identifier or already in use, or the class is no `ExitHead`.
    """
    return HEADS.register(name)


def registered_heads() -> dict[str, type[ExitHead]]:
    """Return all head classes by name, those of other distributions too."""
    return HEADS.items()


@dataclass(frozen=True)
class HeadEntry:
    """One entry of a recipe's list of heads.

    Attributes:
        name: Unique in the list: the kind, numbered from its second entry on.
        kind: A registered name.
        options: Fields of the kind's ``Options``.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


def name_heads(heads: Sequence[str | Mapping[str, Any]]) -> list[HeadEntry]:
    """Name the entries of a list of heads: ``mlp``, and ``mlp-2`` for the second of that kind.

    Args:
        heads: Kinds, or mappings of ``kind`` and its options.

    Returns:
        The entries in order.
    """
    entries: list[HeadEntry] = []
    for head in heads:
        options = {} if isinstance(head, str) else {key: value for key, value in head.items() if key != "kind"}
        kind = head if isinstance(head, str) else head["kind"]
        count = sum(entry.kind == kind for entry in entries) + 1
        entries.append(HeadEntry(kind if count == 1 else f"{kind}-{count}", kind, options))
    return entries


def build_head(
    head: str | HeadEntry,
    shape: Sequence[int | str],
    classes: int,
    *,
    cut: str = "",
    mask: str | None = None,
    class_token: bool = True,
) -> ExitHead:
    """Build an untrained head.

    Args:
        head: A kind, or an entry with options.
        shape: Of the hidden state without batch; a dynamic size is a string.
        classes: Number of logits.
        cut: Name of the cut, for messages.
        mask: Name of the model's input (N, L) that is the mask of the tokens.
        class_token: Whether masked tokens begin with a class token.

    Returns:
        The head, with `input_names` and `dynamic_dims` set.

    Raises:
        PassError: The kind is unknown, or does not fit the shape.
    """
    entry = HeadEntry(head, head) if isinstance(head, str) else head
    kind = HEADS.find(entry.kind)
    try:
        options = kind.Options.model_validate(dict(entry.options)).model_dump()
        construct = cast(Callable[..., ExitHead], kind)
        built = construct(FeatureLayout.of(shape, mask is not None, class_token), classes, **options)
    except PassError as error:
        place = f" at cut '{cut}'" if cut else ""
        raise PassError(
            f"exit head '{entry.name}' does not fit the hidden state of shape {tuple(shape)}{place}: {error}"
        ) from error
    set_inputs(built, shape, mask)
    return built


def set_inputs(head: ExitHead, shape: Sequence[int | str], mask: str | None) -> None:
    """Set the `input_names` and `dynamic_dims` of a head; arguments as for `build_head`."""
    dynamic = {dimension: size for dimension, size in enumerate(shape, start=1) if isinstance(size, str)}
    head.dynamic_dims = (dynamic,)
    if mask is not None:
        head.input_names, head.dynamic_dims = (HIDDEN, mask), (dynamic, dynamic)
