"""The samples of one split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.mapped_arrays import take_rows
from ..errors import DataError
from ..images import ImageFormat

#: Name of a single input that came without one; models take it by position.
UNNAMED = ""
#: Key of the split that only makers of savers see.
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Split:
    """Samples of one split.

    Attributes:
        name: ``train``, ``calibration``, ``test`` or ``unlabelled``.
        inputs: Arrays (N, ...) by the name under which models take them; a single one may be ``UNNAMED``.
        labels: int64 (N,), -1 if unknown.
        class_names: The class names that the data use, by label; None if their labels are numbers.
        groups: int64 (N,) >= 0, what limits on losses are kept for; None if these are the classes.
        image_format: The form into which image files were decoded; None if the inputs are no decoded files.
    """

    name: str
    inputs: dict[str, np.ndarray]
    labels: np.ndarray
    class_names: tuple[str, ...] | None = None
    image_format: ImageFormat | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def by_name(self) -> bool:
        """Whether models take the inputs by name."""
        return UNNAMED not in self.inputs

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The inputs as tensors that share their memory."""
        return {name: torch.from_numpy(array) for name, array in self.inputs.items()}

    def take(self, rows: np.ndarray) -> "Split":
        """Select samples by row."""
        return replace(
            self,
            inputs={name: take_rows(array, rows) for name, array in self.inputs.items()},
            labels=self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def feeds(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the inputs that a model takes, by the model's names for them; one input fits one of any name.

        Raises:
            DataError: An input is missing.
        """
        if len(names) == len(self.inputs) == 1:
            return {names[0]: next(iter(self.inputs.values()))}
        for name in names:
            if name not in self.inputs:
                known = ", ".join(self.inputs) if self.by_name else "one without a name"
                raise DataError(f"split '{self.name}' has no input '{name}', which the model takes; it has {known}")
        return {name: self.inputs[name] for name in names}
