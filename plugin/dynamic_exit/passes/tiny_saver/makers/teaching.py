"""What makers learn from: the training split, and what the backbone answers on views of it."""

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from ....errors import PassError
from ...training import check_samples

#: Returns a view of the samples of some rows, int64 (B,): inputs by name, each (B, ...).
ViewOf = Callable[[Tensor], Mapping[str, Tensor]]


class Teaching:
    """The training split, and the backbone as its teacher.

    Args:
        inputs: By name, each (N, ...), as the backbone takes them.
        labels: int64 (N,), -1 where unknown.
        classes: Number of classes C.
        answer: From a name that covers all that decides a view, and the view, to the backbone's logits (N, C) on it;
            each view is answered once.

    Raises:
        PassError: The samples are fewer than the classes or than two, or all of one class.
    """

    def __init__(
        self, inputs: Mapping[str, Tensor], labels: Tensor, classes: int, answer: Callable[[str, ViewOf], Tensor]
    ):
        self.inputs, self.labels, self.classes, self._answer = dict(inputs), labels, classes, answer
        if len(labels) < max(2, classes):
            raise PassError(
                f"the training split has {len(labels)} samples for {classes} classes; making savers needs at least one "
                "a class, so give more or name trained candidates"
            )
        if len(labels.unique()) == 1 and int(labels[0]) >= 0:
            raise PassError(
                f"all {len(labels)} samples of the training split are of class {int(labels[0])}; making savers needs "
                "two classes, so give others or name trained candidates"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def logits(self, name: str, view: ViewOf) -> Tensor:
        """Return the backbone's logits on a view, float (N, C); arguments as for `answer`.

        Raises:
            PassError: They hold NaN or infinity, or a label is no class.
        """
        logits = self._answer(name, view)
        check_samples([*self.inputs.values()], self.labels, logits, "a saver")
        return logits

    def plain(self, rows: Tensor) -> dict[str, Tensor]:
        """Return samples as they are."""
        return {name: tensor[rows] for name, tensor in self.inputs.items()}

    @cached_property
    def plain_logits(self) -> Tensor:
        """The backbone's logits on the samples as they are, float (N, C)."""
        return self.logits("plain", self.plain)

    @cached_property
    def truth(self) -> Tensor:
        """The class that counts as correct, int64 (N,): the label, or the backbone's answer where it is unknown."""
        return torch.where(self.labels >= 0, self.labels, self.plain_logits.argmax(dim=1))
