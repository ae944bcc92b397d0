"""Training of a saver for its role: sure where it is right, unsure where the backbone should answer."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ...errors import PassError
from ..augment import AUGMENTS, AugmentName, make_augment
from ..stanza import Stanza

_WARM_UP = 0.1
_LARGEST_GRADIENT = 1.0


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
    say: Callable[[str], None] = lambda line: None,
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
        say: Told how each epoch went.

    Returns:
        The trained copy in evaluation mode.

    Raises:
        PassError: The samples do not fit each other or the candidate, there are fewer than two, or the loss or its
            gradient became NaN or infinite, or `augment` does not suit the inputs.
    """
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    _check(tensors, labels, teacher_logits)
    model = copy.deepcopy(candidate).train().requires_grad_(True)
    truth = torch.where(labels >= 0, labels, teacher_logits.argmax(dim=1))
    batches = max(1, len(labels) // options.batch_size)  # a short last batch would disturb the batch statistics
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_and_cosine(options.epochs * batches))
    generator = torch.Generator().manual_seed(seed)
    views = make_augment(options.augment, len(labels), seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout knows no other source of randomness
        for epoch in range(1, options.epochs + 1):
            losses, right = 0.0, 0
            for rows in torch.randperm(len(labels), generator=generator).tensor_split(batches):
                batch = [each[rows] if views is None else views(each[rows], rows, epoch) for each in tensors]
                logits = model(*map(_as_number, batch))
                loss = saver_loss(logits, truth[rows], teacher_logits[rows], options)
                _step(model, optimizer, loss, epoch)
                schedule.step()
                losses += loss.item() * len(rows)
                right += int((logits.argmax(dim=1) == truth[rows]).sum())
            count = len(labels)
            say(f"epoch {epoch} of {options.epochs}: loss {losses / count:.4f}, right {100 * right / count:.1f} %")
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
    return (1 - options.distillation) * own + options.distillation * _from_teacher(
        logits, teacher_logits, options.temperature
    )


def _from_uniform(logits: Tensor) -> Tensor:
    logarithms = functional.log_softmax(logits, dim=1)
    return (logarithms.exp() * logarithms).sum(dim=1) + math.log(logits.shape[1])


def _from_teacher(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    saver, teacher = (functional.log_softmax(each / temperature, dim=1) for each in (logits, teacher_logits))
    return temperature**2 * functional.kl_div(saver, teacher, reduction="batchmean", log_target=True)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, epoch: int) -> None:
    optimizer.zero_grad()
    loss.backward()
    gradient = nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
    for name, value in (("loss", loss), ("gradient", gradient)):
        if not torch.isfinite(value):
            raise PassError(f"the {name} of a saver became {value.item()} in epoch {epoch}; lower its learning_rate")
    optimizer.step()


def _warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    warm = max(1, round(_WARM_UP * steps))
    rest = max(1, steps - warm)
    return lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / rest)))


def _as_number(batch: Tensor) -> Tensor:
    """Images as float; token indices and masks as they are."""
    return batch if batch.dtype in (torch.int64, torch.int32, torch.bool) else batch.float()


def _check(inputs: Sequence[Tensor], labels: Tensor, teacher_logits: Tensor) -> None:
    counts = (len(inputs[0]), len(labels), len(teacher_logits))
    if len(set(counts)) != 1:
        raise PassError(
            "inputs, labels and the backbone's logits must be of the same samples; "
            f"got {counts[0]}, {counts[1]} and {counts[2]}"
        )
    if len(labels) < 2:
        raise PassError(f"a saver needs at least 2 training samples; got {len(labels)}")
    if not torch.isfinite(teacher_logits).all():
        raise PassError(
            "the backbone's logits on the training split hold NaN or infinity; check its weights and inputs"
        )
    if len(labels) and int(labels.max()) >= teacher_logits.shape[1]:
        raise PassError(f"label {int(labels.max())} is not one of the backbone's {teacher_logits.shape[1]} classes")
