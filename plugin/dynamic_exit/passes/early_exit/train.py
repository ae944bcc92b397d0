"""Training of exit heads on what a frozen backbone gives."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import PassError
from .config import Training


def train_head(head: nn.Module, hidden: Tensor, labels: Tensor, final: Tensor, options: Training, seed: int) -> None:
    """Train one head in place and leave it in evaluation mode.

    The loss is cross-entropy with the labels, mixed with the Kullback-Leibler divergence from the final's
    probabilities. Samples without a label (-1) are compared with the final alone.

    Args:
        head: Maps (N, ...) to logits (N, C).
        hidden: What the backbone gives at the head's cut, float (N, ...), of the training split.
        labels: int64 (N,), -1 where unknown.
        final: The final's logits, float (N, C).
        options: Epochs, rates, mix.
        seed: Order of the samples.

    Raises:
        PassError: The loss became NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.softmax(final, dim=1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    batches = max(1, len(hidden) // options.batch_size)  # a short last batch would disturb the batch statistics
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.epochs * batches
    )
    head.train()
    for epoch in range(options.epochs):
        order = torch.randperm(len(hidden), generator=generator)
        for rows in order.chunk(batches):
            logits = head(hidden[rows])
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
