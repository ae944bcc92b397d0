"""What every exit head is; a new kind is one class that registers itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ....errors import PassError, nearest
from ...stanza import Stanza
from .feature_layout import FeatureLayout
from .pooling import Identity, Standardize

#: The one name of exits that is no kind of head: those of the sequence network.
SEQUENCE = "sequence"
_HEADS: dict[str, type["ExitHead"]] = {}


def register_head(name: str) -> Callable[[type["ExitHead"]], type["ExitHead"]]:
    """Register a head class under a name that recipes use.

    The class is built as ``Head(hidden, classes, **options)`` with a `FeatureLayout` and the fields of its
    ``Options``, and maps (N, *hidden.shape) to logits (N, classes).

    Args:
        name: Not yet taken.

    Returns:
        A class decorator.

    Raises:
        PassError: The name is taken.
    """

    def decorate(head: type["ExitHead"]) -> type["ExitHead"]:
        if name in _HEADS or name == SEQUENCE:
            raise PassError(f"exit head '{name}' is already registered; choose another name")
        _HEADS[name] = head
        return head

    return decorate


def registered_heads() -> dict[str, type["ExitHead"]]:
    """Return all kinds of heads by name."""
    return dict(_HEADS)


class ExitHead(nn.Module, ABC):
    """Base of heads: `features` has nothing to train and is computed once for a whole training, `answer` is trained.

    Args:
        features: Module from the hidden state (N, ...), and its mask (N, L) where there is one, to what `answer` takes.
            Its ``key`` tells which features are the same at one cut, so that they are kept once. None hands the hidden
            state on as it is.

    Attributes:
        Options: What a recipe may set; each field has a default.
        input_names: Names of what ``forward`` wants: ``hidden``, and the model's input that is its mask.
        dynamic_dims: For each of `input_names`, its free dimensions besides batch: index -> name.
    """

    Options: type[Stanza] = Stanza
    input_names: tuple[str, ...] = ("hidden",)
    dynamic_dims: tuple[dict[int, str], ...] = ({},)

    def __init__(self, features: nn.Module | None = None):
        super().__init__()
        self.features = Identity() if features is None else features

    @abstractmethod
    def answer(self, features: Tensor) -> Tensor:
        """Map features to logits (N, C)."""

    def prepare(self, features: Tensor) -> None:
        """Look at the features of some training samples before training; by default fits what standardises them."""
        for module in self.modules():
            if isinstance(module, Standardize):
                module.fit(features)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Map what `input_names` names, batch first, to logits (N, C)."""
        return self.answer(self.features(*tensors))


@dataclass(frozen=True)
class HeadEntry:
    """One entry of a recipe's list of heads.

    Attributes:
        name: Unique in the list: the kind, from its second entry on with a number.
        kind: A registered name.
        options: Fields of the kind's ``Options``.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


def name_heads(heads: Sequence[str | Mapping[str, Any]]) -> list[HeadEntry]:
    """Give each entry of a list of heads a name: ``mlp``, and ``mlp-2`` for the second of that kind.

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
    head: str | HeadEntry, shape: Sequence[int | str], classes: int, *, cut: str = "", mask: str | None = None
) -> ExitHead:
    """Build an untrained head.

    Args:
        head: A kind, or an entry with options.
        shape: Of the hidden state without batch; a free dimension is a string.
        classes: Number of logits.
        cut: Where it goes, for messages.
        mask: Name of the model's input (N, L) that is the mask of the tokens.

    Returns:
        The head.

    Raises:
        PassError: The kind is unknown, or does not fit the shape.
    """
    entry = HeadEntry(head, head) if isinstance(head, str) else head
    if entry.kind not in _HEADS:
        raise PassError(f"unknown exit head '{entry.kind}'; {nearest(entry.kind, _HEADS)}")
    kind = _HEADS[entry.kind]
    try:
        options = kind.Options.model_validate(dict(entry.options)).model_dump()
        built = kind(FeatureLayout.of(shape, mask is not None), classes, **options)
    except PassError as error:
        place = f" at cut '{cut}'" if cut else ""
        raise PassError(
            f"exit head '{entry.name}' does not fit the hidden state of shape {tuple(shape)}{place}: {error}"
        ) from error
    name_inputs(built, shape, mask)
    return built


def name_inputs(head: ExitHead, shape: Sequence[int | str], mask: str | None) -> None:
    """Tell a head what it takes, and what of that is free besides batch; arguments as for `build_head`."""
    free = {place: side for place, side in enumerate(shape, start=1) if isinstance(side, str)}
    head.dynamic_dims = (free,)
    if mask is not None:
        head.input_names, head.dynamic_dims = ("hidden", mask), (free, free)
