"""What a monitor asks of a model, and blocks of its answers."""

from typing import Any, NamedTuple, Protocol

import numpy as np


class SwitchableModel(Protocol):
    """What a monitor needs of a loaded model; those of `load_runner` and `from_pretrained` have it."""

    @property
    def operating_point(self) -> Any:
        """The current operating point."""

    @property
    def thresholds(self) -> np.ndarray:
        """float32 (S,): the current thresholds; asked for where they are re-tuned."""

    def set_operating_point(self, name: str) -> Any:
        """Switch to another operating point."""


class Block(NamedTuple):
    """Answers at one operating point that wait to be looked at: what is watched of them, their stages and confidences.

    Only where samples leave is told by stages and confidences; of all else both are empty.
    """

    point: str
    values: np.ndarray
    exits: np.ndarray = np.zeros(0, np.int64)
    sure: np.ndarray = np.zeros(0, np.float32)

    def part(self, rows: slice) -> "Block":
        """Return some of the answers."""
        return Block(self.point, *(array[rows] for array in self[1:]))

    def to_list(self) -> list[Any]:
        """Return it as what JSON holds."""
        return [self.point, *(array.tolist() for array in self[1:])]

    @classmethod
    def from_list(cls, state: list[Any]) -> "Block":
        """Return the block of what `to_list` returned."""
        point, values, exits, sure = state
        arrays = np.asarray(values, np.int64), np.asarray(exits, np.int64), np.asarray(sure, np.float32)
        return cls(str(point), *arrays)
