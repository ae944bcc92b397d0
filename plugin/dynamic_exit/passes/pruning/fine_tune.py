"""Training of a pruned model, on labels and on what the unpruned model answers."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import PassError
from ...graph import Classifier
from ..training import as_number, check_samples, distillation_loss, train
from .config import FineTune

_BATCH = 256


class Teacher:
    """The unpruned model and the samples that it teaches on.

    Args:
        model: The unpruned model, in evaluation mode; it stays as it was.
        inputs: Of the training split, each (N, ...).
        labels: int64 (N,), -1 where unknown; then what the model answers counts as right.

    Attributes:
        truth: int64 (N,), the class that counts as right.
        known: bool (N,), whether that is a label.
        images: Whether the samples are images (N, C, H, W).

    Raises:
        PassError: The samples do not fit each other or the model, or all labels are of one class.
    """

    def __init__(self, model: Classifier, inputs: Sequence[Tensor], labels: Tensor):
        self.inputs, self.known = tuple(inputs), labels >= 0
        self.images = len(inputs) == 1 and inputs[0].dim() == 4
        layout = torch.channels_last if self.images else torch.preserve_format
        self.model = copy.deepcopy(model).to(memory_format=layout).eval()
        classes = labels[self.known].unique()
        if len(classes) == 1 and self.known.all():
            raise PassError(f"the training split holds class {int(classes)} alone, so that nothing can be learnt from "
                            "it; give more classes, or set `pruning.fine_tune.epochs` to 0")  # fmt: skip
        count = len(labels) if not self.known.all() else 2
        logits = torch.cat([self.answer([each[rows] for each in inputs]) for rows in torch.arange(count).split(_BATCH)])
        alike = torch.zeros(1).expand(len(labels), logits.shape[1]) if len(logits) < len(labels) else logits
        check_samples(self.inputs, labels, alike, "fine-tuning after pruning")
        self.truth = labels if self.known.all() else torch.where(self.known, labels, logits.argmax(dim=1))

    def answer(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the unpruned model's logits (B, C)."""
        with torch.no_grad():
            return self.model(*map(as_number, batch))


def fine_tune(
    model: Classifier,
    teacher: Teacher,
    options: FineTune,
    seed: int,
    name: str,
) -> None:
    """Train a pruned model in place; the unpruned one answers the same views of the samples.

    With d = `distillation` the loss is (1 - d) CE + d T^2 KL(unpruned_T || pruned_T). A sample without a label has no
    cross-entropy where the unpruned model is followed.

    Args:
        model: The pruned model.
        teacher: The unpruned one, with the samples.
        options: Epochs, rates, loss.
        seed: Decides the order of the samples, their augmentation and dropout.
        name: The model in messages.

    Raises:
        PassError: The loss or its gradient became NaN or infinite.
    """
    share, known = options.distillation, teacher.known

    def loss_of(logits: Tensor, rows: Tensor, batch: list[Tensor]) -> Tensor:
        followed = distillation_loss(logits, teacher.answer(batch), options.temperature) if share else 0.0
        if share == 1:
            return followed
        own = functional.cross_entropy(logits, teacher.truth[rows], reduction="none")
        own = own if share == 0 else own * known[rows]
        return (1 - share) * own.mean() + share * followed

    try:
        if teacher.images:
            model.to(memory_format=torch.channels_last)  # in which convolutions learn faster
        train(model, teacher.inputs, teacher.truth, loss_of, options, seed, name=name)
    finally:
        model.to(memory_format=torch.contiguous_format)
