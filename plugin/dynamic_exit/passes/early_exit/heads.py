"""Kinds of exit heads; a new kind is one class that registers itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ...errors import PassError, nearest

_HEADS: dict[str, type["ExitHead"]] = {}


def register_head(name: str) -> Callable[[type["ExitHead"]], type["ExitHead"]]:
    """Register a head class under a name that recipes use.

    The class is built as ``Head(shape, classes)`` with the shape of the hidden state without batch, and maps
    (N, *shape) to logits (N, classes).

    Args:
        name: Not yet taken.

    Returns:
        A class decorator.

    Raises:
        PassError: The name is taken.
    """

    def decorate(head: type["ExitHead"]) -> type["ExitHead"]:
        if name in _HEADS:
            raise PassError(f"exit head '{name}' is already registered; choose another name")
        _HEADS[name] = head
        return head

    return decorate


def registered_heads() -> dict[str, type["ExitHead"]]:
    """Return all kinds of heads by name."""
    return dict(_HEADS)


def build_head(kind: str, shape: Sequence[int | str], classes: int) -> "ExitHead":
    """Build an untrained head.

    Args:
        kind: A registered name.
        shape: Of the hidden state without batch; a free dimension is a string.
        classes: Number of logits.

    Returns:
        The head.

    Raises:
        PassError: The kind is unknown, or does not fit the shape.
    """
    if kind not in _HEADS:
        raise PassError(f"unknown exit head '{kind}'; {nearest(kind, _HEADS)}")
    return _HEADS[kind](shape, classes)


class ExitHead(nn.Module, ABC):
    """Base of heads: `features` has nothing to train and is computed once for a whole training, `answer` is trained."""

    def features(self, hidden: Tensor) -> Tensor:
        """Map the hidden state (N, ...) to what `answer` takes; by default itself."""
        return hidden

    @abstractmethod
    def answer(self, features: Tensor) -> Tensor:
        """Map features to logits (N, C)."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Map the hidden state (N, ...) to logits (N, C)."""
        return self.answer(self.features(hidden))


class GlobalPool(nn.Module):
    """Mean over everything but batch and channels: (N, C, H, W), (N, H, W, C), (N, L, C) or (N, C) to (N, C).

    Args:
        shape: Of the hidden state without batch. Of a shape of three, the two equal dimensions are taken for space,
            the first being channels where all are equal.
    """

    def __init__(self, shape: Sequence[int | str]):
        super().__init__()
        if len(shape) == 3:
            channels_last = shape[0] == shape[1] != shape[2]
            self.dims, channels = ((1, 2), shape[2]) if channels_last else ((2, 3), shape[0])
        elif len(shape) == 2:
            self.dims, channels = (1,), shape[1]
        elif len(shape) == 1:
            self.dims, channels = (), shape[0]
        else:
            raise PassError(f"an exit head needs a hidden state of 1 to 3 dimensions besides batch; got {tuple(shape)}")
        if not isinstance(channels, int):
            raise PassError(f"an exit head needs a fixed number of channels; got {tuple(shape)}")
        self.channels = channels

    def forward(self, hidden: Tensor) -> Tensor:
        """Pool (N, ...) to (N, C)."""
        return hidden.mean(self.dims) if self.dims else hidden


class PooledHead(ExitHead):
    """Global pooling, then standardisation of each channel, then what a subclass puts into `layers`."""

    def __init__(self, shape: Sequence[int | str]):
        super().__init__()
        self.pool = GlobalPool(shape)
        self.channels = self.pool.channels
        self.norm = nn.BatchNorm1d(self.channels)
        self.layers = nn.Identity()

    def features(self, hidden: Tensor) -> Tensor:
        """Pool (N, ...) to (N, C)."""
        return self.pool(hidden)

    def answer(self, features: Tensor) -> Tensor:
        """Map pooled features (N, C) to logits (N, classes)."""
        return self.layers(self.norm(features))


@register_head("linear")
class LinearHead(PooledHead):
    """One linear layer on pooled features."""

    def __init__(self, shape: Sequence[int | str], classes: int):
        super().__init__(shape)
        self.layers = nn.Linear(self.channels, classes)


@register_head("mlp")
class MlpHead(PooledHead):
    """Two linear layers on pooled features with a ReLU between, as wide as the hidden state has channels."""

    def __init__(self, shape: Sequence[int | str], classes: int):
        super().__init__(shape)
        hidden = nn.Linear(self.channels, self.channels)
        self.layers = nn.Sequential(hidden, nn.ReLU(), nn.Linear(self.channels, classes))
