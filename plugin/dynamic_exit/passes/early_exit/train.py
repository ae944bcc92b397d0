"""Training of exit heads on what a frozen backbone gives."""

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import PassError
from .config import Training
from .heads import ExitHead


def train_head(head: ExitHead, hidden: Tensor, labels: Tensor, final: Tensor, options: Training, seed: int) -> None:
    """Train one head in place and leave it in evaluation mode.

    The loss is cross-entropy with the labels, mixed with the Kullback-Leibler divergence from the final's
    probabilities. Samples without a label (-1) are compared with the final alone.

    Args:
        head: What is trained.
        hidden: What the backbone gives at the head's cut, float (N, ...), of the training split.
        labels: int64 (N,), -1 where unknown.
        final: The final's logits, float (N, C).
        options: Epochs, rates, mix.
        seed: Order of the samples.

    Raises:
        PassError: There are fewer than two samples, or the loss became NaN or infinite.
    """
    if len(hidden) < 2:
        raise PassError(f"exit heads need at least 2 training samples; got {len(hidden)}")
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.softmax(final, dim=1)
    with torch.no_grad():
        features = head.features(hidden)
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    batches = max(1, len(hidden) // options.batch_size)  # a short last batch would disturb the batch statistics
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.epochs * batches
    )
    head.train()
    for epoch in range(options.epochs):
        order = torch.randperm(len(hidden), generator=generator)
        for rows in order.chunk(batches):
            logits = head.answer(features[rows])
            loss = _loss(logits, labels[rows], teacher[rows], options.distillation)
            if not torch.isfinite(loss):
                raise PassError(f"the loss of an exit head became {loss.item()} in epoch {epoch + 1}; lower its rate")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    head.eval()


def _loss(logits: Tensor, labels: Tensor, teacher: Tensor, distillation: float) -> Tensor:
    divergence = functional.kl_div(functional.log_softmax(logits, dim=1), teacher, reduction="batchmean")
    known = labels >= 0
    if not known.any():
        return divergence
    return (1 - distillation) * functional.cross_entropy(logits[known], labels[known]) + distillation * divergence
