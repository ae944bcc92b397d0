"""Fine-tuning of a saver: certain where it is correct, uncertain where the backbone should answer."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..training import LabeledInputs, TrainingRun, check_samples, distillation_loss, train
from .config import FineTuneStanza


@dataclass(frozen=True)
class TeacherSamples:
    """The training split, and what the backbone answers on it.

    Attributes:
        inputs: Of the candidate: one uint8 or float (N, ...), passed as float, or several.
        labels: int64 (N,), -1 where unknown.
        teacher_logits: Of the backbone, float (N, C), for the inputs without augmentation.
    """

    inputs: Tensor | Sequence[Tensor]
    labels: Tensor
    teacher_logits: Tensor


def fine_tune(
    candidate: nn.Module, samples: TeacherSamples, options: FineTuneStanza, seed: int, *, log_prefix: str = ""
) -> nn.Module:
    """Train a copy of a candidate as a saver, on a GPU if there is one; the candidate itself stays as it is.

    Batch norms learn new statistics. For a sample without a label the backbone's answer counts as correct.

    Args:
        candidate: Classifier with logits (N, C).
        samples: Inputs, labels, and logits of the backbone.
        options: Epochs, rates and loss.
        seed: Order of the samples, their augmentation, and dropout.
        log_prefix: Precedes the line that is logged for each epoch.

    Returns:
        The trained copy in evaluation mode, where the candidate is.

    Raises:
        PassError: The samples do not fit each other or the candidate, there are fewer than two, `augment` does not suit
            the inputs, or the loss or its gradient became NaN or infinite.
    """
    inputs, labels, teacher_logits = samples.inputs, samples.labels, samples.teacher_logits
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    check_samples(tensors, labels, teacher_logits, "a saver")
    model = copy.deepcopy(candidate)
    truth = torch.where(labels >= 0, labels, teacher_logits.argmax(dim=1))

    def loss_of(logits: Tensor, rows: Tensor, batch: list[Tensor], epoch: int) -> Tensor:
        right, taught = (each[rows].to(logits.device) for each in (truth, teacher_logits))
        return saver_loss(logits, right, taught, options)

    train(model, LabeledInputs(tensors, truth), loss_of, options, TrainingRun(seed, "a saver", log_prefix))
    return model.eval()


def saver_loss(logits: Tensor, truth: Tensor, teacher_logits: Tensor, options: FineTuneStanza) -> Tensor:
    """Return the loss of one batch.

    With d = `distillation` and T = `temperature` it is (1 - d) L + d T^2 KL(teacher_T || saver_T), the latter as in
    arXiv 1503.02531. L is the cross-entropy, or that of Gatekeeper (arXiv 2502.19335):

        alpha / N sum over correct answers of CE(p_i, y_i) + (1 - alpha) / N sum over wrong ones of KL(p_i || uniform)

    The second term's gradient vanishes where p_i is nearly one-hot: for a saver that is almost certain everywhere,
    choose a small alpha or the cross-entropy.

    Args:
        logits: Of the saver, float (N, C).
        truth: int64 (N,), the correct class.
        teacher_logits: Of the backbone, float (N, C).
        options: The loss and its weights.

    Returns:
        A scalar.
    """
    cross_entropy = functional.cross_entropy(logits, truth, reduction="none")
    if options.loss == "gatekeeper":
        correct = logits.argmax(dim=1) == truth
        wrong_loss = (1 - options.alpha) * _divergence_from_uniform(logits)
        own = torch.where(correct, options.alpha * cross_entropy, wrong_loss).mean()
    else:
        own = cross_entropy.mean()
    if options.distillation == 0:
        return own
    distilled = distillation_loss(logits, teacher_logits, options.temperature)
    return (1 - options.distillation) * own + options.distillation * distilled


def _divergence_from_uniform(logits: Tensor) -> Tensor:
    """Return KL(p || uniform) for each row, (N,)."""
    log_probabilities = functional.log_softmax(logits, dim=1)
    return (log_probabilities.exp() * log_probabilities).sum(dim=1) + math.log(logits.shape[1])
