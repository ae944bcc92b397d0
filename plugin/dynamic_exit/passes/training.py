"""The loop in which passes train whole models, and what it asks of a stanza."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import PassError
from .augment import make_augment

logger = logging.getLogger(__name__)

_WARM_UP = 0.1
_LARGEST_GRADIENT = 1.0


class Options(Protocol):
    """What a stanza says of training: `learning_rate` is AdamW's peak, after a warm-up and before a cosine decay."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    augment: str


def train(
    model: nn.Module,
    inputs: Sequence[Tensor],
    truth: Tensor,
    loss_of: Callable[[Tensor, Tensor, list[Tensor]], Tensor],
    options: Options,
    seed: int,
    *,
    name: str,
    log_prefix: str = "",
) -> None:
    """Train a model in place and leave it in evaluation mode.

    Args:
        model: Classifier, logits (N, C) out; all of its parameters learn.
        inputs: What it takes, each (N, ...), handed on as numbers that it can work with.
        truth: int64 (N,), what counts as right in the report of an epoch.
        loss_of: From logits (B, C), rows int64 (B,) and the model's inputs for them to a scalar.
        options: Epochs, batches and rates.
        seed: Decides the order of the samples, their augmentation and dropout.
        name: The model in messages.
        log_prefix: Precedes the line that is logged for each epoch.

    Raises:
        PassError: The loss or its gradient became NaN or infinite, or `augment` does not suit the inputs.
    """
    model.train().requires_grad_(True)
    count = len(truth)
    batches = max(1, count // options.batch_size)  # a short last batch would disturb the batch statistics
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_and_cosine(options.epochs * batches))
    generator = torch.Generator().manual_seed(seed)
    views = make_augment(options.augment, count, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout knows no other source of randomness
        for epoch in range(1, options.epochs + 1):
            losses, right = 0.0, 0
            for rows in torch.randperm(count, generator=generator).tensor_split(batches):
                batch = [as_number(each[rows] if views is None else views(each[rows], rows, epoch)) for each in inputs]
                logits = model(*batch)
                loss = loss_of(logits, rows, batch)
                _step(model, optimizer, loss, f"of {name} became {{}} in epoch {epoch}; lower its learning_rate")
                schedule.step()
                losses += loss.item() * len(rows)
                right += int((logits.argmax(dim=1) == truth[rows]).sum())
            report = f"loss {losses / count:.4f}, right {100 * right / count:.1f} %"
            logger.info(f"{log_prefix}epoch {epoch} of {options.epochs}: {report}")
    model.eval()


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher_T || student_T) of one batch (arXiv 1503.02531), a scalar; both logits are (B, C)."""
    student, teacher = (functional.log_softmax(each / temperature, dim=1) for each in (logits, teacher_logits))
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def as_number(batch: Tensor) -> Tensor:
    """Return images as float; token indices and masks as they are."""
    return batch if batch.dtype in (torch.int64, torch.int32, torch.bool) else batch.float()


def check_samples(inputs: Sequence[Tensor], labels: Tensor, teacher_logits: Tensor, name: str) -> None:
    """Refuse samples that do not fit each other.

    Raises:
        PassError: Other numbers of samples, fewer than two, logits that are no numbers, or labels beyond the classes.
    """
    counts = (len(inputs[0]), len(labels), len(teacher_logits))
    if len(set(counts)) != 1:
        raise PassError(
            "inputs, labels and the backbone's logits must be of the same samples; "
            f"got {counts[0]}, {counts[1]} and {counts[2]}"
        )
    if len(labels) < 2:
        raise PassError(f"{name} needs at least 2 training samples; got {len(labels)}")
    if not torch.isfinite(teacher_logits).all():
        raise PassError(
            "the backbone's logits on the training split hold NaN or infinity; check its weights and inputs"
        )
    if int(labels.max()) >= teacher_logits.shape[1]:
        raise PassError(f"label {int(labels.max())} is not one of the backbone's {teacher_logits.shape[1]} classes")


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, complaint: str) -> None:
    optimizer.zero_grad()
    loss.backward()
    gradient = nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
    for name, value in (("loss", loss), ("gradient", gradient)):
        if not torch.isfinite(value):
            raise PassError(f"the {name} {complaint.format(value.item())}")
    optimizer.step()


def _warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    warm = max(1, round(_WARM_UP * steps))
    rest = max(1, steps - warm)
    return lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / rest)))
