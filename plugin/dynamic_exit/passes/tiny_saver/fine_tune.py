"""Training of a saver for its role: sure where it is right, unsure where the backbone should answer."""

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..augment import AUGMENTS, AugmentName
from ..stanza import Stanza
from ..training import check_samples, distillation_loss, train


class FineTuneStanza(Stanza):
    """Training of savers on the training split, so that their confidence tells right answers from wrong ones."""

    epochs: int = Field(4, ge=1, description="passes over the training split")
    batch_size: int = Field(64, ge=2, description="samples in a step at least, where there are as many")
    learning_rate: float = Field(1e-3, gt=0, description="peak of AdamW's, after a warm-up and before a cosine decay")
    weight_decay: float = Field(1e-4, ge=0, description="of AdamW")
    loss: Literal["gatekeeper", "distillation"] = Field(
        "distillation", description="gatekeeper: unsure where it is wrong; distillation: cross-entropy everywhere"
    )
    alpha: float = Field(0.5, gt=0, lt=1, description="gatekeeper: 1 - alpha is the weight of being unsure when wrong")
    distillation: float = Field(
        0.0, ge=0, le=1, description="share of the loss that follows the backbone; 0 where it has memorised the split"
    )
    temperature: float = Field(2.0, gt=0, le=100, description="divides both logits where the backbone is followed")
    augment: AugmentName = Field("none", description=AUGMENTS)


def fine_tune(
    candidate: nn.Module,
    inputs: Tensor | Sequence[Tensor],
    labels: Tensor,
    teacher_logits: Tensor,
    options: FineTuneStanza,
    seed: int,
    *,
    log_prefix: str = "",
) -> nn.Module:
    """Train a copy of a candidate for its role as a saver; the given one stays as it was.

    Batch norms learn new statistics. A sample without a label counts as right when the answer is the backbone's.

    Args:
        candidate: Classifier, logits (N, C) out.
        inputs: What it takes of the training split: one uint8 or float (N, ...), handed on as float, or several.
        labels: int64 (N,), -1 where unknown.
        teacher_logits: The backbone's, float (N, C), for these inputs as they are.
        options: Epochs, rates, loss.
        seed: Decides the order of the samples, their augmentation and dropout.
        log_prefix: Precedes the line that is logged for each epoch.

    Returns:
        The trained copy in evaluation mode.

    Raises:
        PassError: The samples do not fit each other or the candidate, there are fewer than two, or the loss or its
            gradient became NaN or infinite, or `augment` does not suit the inputs.
    """
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    check_samples(tensors, labels, teacher_logits, "a saver")
    model = copy.deepcopy(candidate)
    truth = torch.where(labels >= 0, labels, teacher_logits.argmax(dim=1))

    def loss_of(logits: Tensor, rows: Tensor, batch: list[Tensor]) -> Tensor:
        return saver_loss(logits, truth[rows], teacher_logits[rows], options)

    train(model, tensors, truth, loss_of, options, seed, name="a saver", log_prefix=log_prefix)
    return model.eval()


def saver_loss(logits: Tensor, truth: Tensor, teacher_logits: Tensor, options: FineTuneStanza) -> Tensor:
    """Return the loss of one batch.

    With d = `distillation` and T = `temperature` it is (1 - d) L + d T^2 KL(teacher_T || saver_T), the latter as in
    arXiv 1503.02531. L is the cross-entropy, or that of Gatekeeper (arXiv 2502.19335):

        alpha / N sum over right answers of CE(p_i, y_i) + (1 - alpha) / N sum over wrong answers of KL(p_i || uniform)

    The second term's gradient vanishes where p_i is nearly one-hot: for a saver that is all but certain everywhere,
    choose a small alpha or the cross-entropy.

    Args:
        logits: The saver's, float (N, C).
        truth: int64 (N,), the class that counts as right.
        teacher_logits: The backbone's, float (N, C).
        options: Which loss, and its weights.

    Returns:
        A scalar.
    """
    cross_entropy = functional.cross_entropy(logits, truth, reduction="none")
    if options.loss == "gatekeeper":
        right = logits.argmax(dim=1) == truth
        own = torch.where(right, options.alpha * cross_entropy, (1 - options.alpha) * _from_uniform(logits)).mean()
    else:
        own = cross_entropy.mean()
    if options.distillation == 0:
        return own
    followed = distillation_loss(logits, teacher_logits, options.temperature)
    return (1 - options.distillation) * own + options.distillation * followed


def _from_uniform(logits: Tensor) -> Tensor:
    logarithms = functional.log_softmax(logits, dim=1)
    return (logarithms.exp() * logarithms).sum(dim=1) + math.log(logits.shape[1])
