"""Fine-tuning of a pruned model on labels and on the answers of the unpruned model."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import PassError
from ...graph import Classifier
from ..training import LabeledInputs, TrainingRun, as_model_input, check_samples, distillation_loss, train
from .config import FineTune

_BATCH_SIZE = 256


class Teacher:
    """The unpruned model as a teacher, and the training samples.

    Args:
        model: The unpruned model in evaluation mode; it is copied.
        inputs: Of the training split, each (N, ...).
        labels: int64 (N,), -1 where unknown: there the model's answer counts as correct.

    Attributes:
        samples: Inputs and correct classes.
        known: bool (N,), whether the correct class is a label.
        images: Whether the inputs are images (N, C, H, W).

    Raises:
        PassError: The samples do not fit each other or the model, or all labels are the same class.
    """

    def __init__(self, model: Classifier, inputs: Sequence[Tensor], labels: Tensor):
        self.known = labels >= 0
        self.images = len(inputs) == 1 and inputs[0].dim() == 4
        layout = torch.channels_last if self.images else torch.preserve_format
        self.model = copy.deepcopy(model).to(memory_format=layout).eval()
        classes = labels[self.known].unique()
        if len(classes) == 1 and self.known.all():
            raise PassError(f"the training split holds class {int(classes)} alone, so that nothing can be learnt from "
                            "it; give more classes, or set `pruning.fine_tune.epochs` to 0")  # fmt: skip
        count = len(labels) if not self.known.all() else 2
        batches = torch.arange(count).split(_BATCH_SIZE)
        logits = torch.cat([self.answer([each[rows] for each in inputs]) for rows in batches])
        all_logits = torch.zeros(1).expand(len(labels), logits.shape[1]) if len(logits) < len(labels) else logits
        check_samples(inputs, labels, all_logits, "fine-tuning after pruning")
        truth = labels if self.known.all() else torch.where(self.known, labels, logits.argmax(dim=1))
        self.samples = LabeledInputs(tuple(inputs), truth)

    def answer(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the unpruned model's logits (B, C)."""
        with torch.no_grad():
            return self.model.to(batch[0].device)(*map(as_model_input, batch))


def fine_tune(
    model: Classifier,
    teacher: Teacher,
    options: FineTune,
    seed: int,
    name: str,
) -> None:
    """Train a pruned model in place; its teacher sees the same augmented samples.

    With d = `distillation` and T = `temperature` the loss is (1 - d) CE + d T^2 KL(unpruned_T || pruned_T). With d > 0,
    a sample without a label has no cross-entropy.

    Args:
        model: The pruned model.
        teacher: The unpruned model with the samples.
        options: Epochs, rates and loss.
        seed: Order of the samples, their augmentation, and dropout.
        name: Of the model, for messages.

    Raises:
        PassError: The loss or its gradient became NaN or infinite.
    """
    share, known = options.distillation, teacher.known

    def loss_of(logits: Tensor, rows: Tensor, batch: list[Tensor], epoch: int) -> Tensor:
        truth, labelled = (each[rows].to(logits.device) for each in (teacher.samples.truth, known))
        cross_entropy = functional.cross_entropy(logits, truth, reduction="none")
        if share == 0:
            return cross_entropy.mean()
        distilled = distillation_loss(logits, teacher.answer(batch), options.temperature)
        return distilled if share == 1 else (1 - share) * (cross_entropy * labelled).mean() + share * distilled

    try:
        if teacher.images:
            model.to(memory_format=torch.channels_last)  # convolutions train faster
        train(model, teacher.samples, loss_of, options, TrainingRun(seed, name))
    finally:
        model.to(memory_format=torch.contiguous_format)
