"""Masked pre-training of an encoder (arXiv 2111.06377; for heartbeats 2309.07136 and 2310.11153)."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ...core.placement import device_of
from ...errors import PassError
from ..stanza import explain
from ..training import TrainingRun, UnlabeledInputs, train
from .config import PretrainStanza
from .reconstruction import Reconstruction
from .segments import Segments, check_series


def pretrain(
    encoder: nn.Module,
    samples: Tensor,
    options: PretrainStanza | Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
) -> float:
    """Train an encoder in place on samples without labels, before it is fine-tuned on the few that have some.

    Samples are cut into segments along their positions, and a share of these is masked, others in each epoch. A decoder
    of two convolutions behind the encoder predicts the masked segments, each normalized to mean 0 and variance 1; the
    loss is the mean squared error on masked segments alone. The decoder is thrown away.

    Args:
        encoder: The part of a network up to its features by position: (N, C, L') for convolutions over series,
            (N, T, D) for transformers, (N, C, H', W') or (N, H', W', C) for images. All of its parameters are trained,
            on a GPU if there is one.
        samples: Float or uint8 (N, channels, length) or (N, channels, height, width), passed to the encoder as float.
        options: `PretrainStanza`, or its fields, such as ``{"epochs": 50, "mask": 0.5, "segment": 8}``.
        seed: Of the masks, the decoder, the order of the samples and dropout: the same seed trains the same weights.

    Returns:
        The mean loss of the last epoch; 1 is that of predicting the mean of each segment, 0 the best.

    Raises:
        PassError: An option is unknown or out of range, the samples are fewer than two, hold NaN or are neither series
            nor images, a segment is longer than the samples, the share masks none or all of the segments, the encoder
            gives no features by position, or the loss became NaN or infinite.
    """
    if not isinstance(encoder, nn.Module):
        raise PassError(f"an encoder must be a torch.nn.Module; got {type(encoder).__name__}")
    try:
        chosen = PretrainStanza.model_validate({} if options is None else options)
    except ValidationError as error:
        raise PassError(explain(error, "pretrain")) from None
    return train_masked(encoder, samples, chosen, TrainingRun(seed, "an encoder", "pre-training: "))


def train_masked(encoder: nn.Module, samples: Tensor, options: PretrainStanza, run: TrainingRun) -> float:
    """Train an encoder in place as `pretrain` does; no epoch begins after the run's deadline."""
    check_series(samples)
    segments = Segments(samples, options.segment, options.mask, run.seed)
    given = device_of(encoder)
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        model = Reconstruction(encoder.cpu().eval(), samples).to(given)

    def view(rows: Tensor, epoch: int) -> list[Tensor]:
        return [segments.hide(rows, epoch)]

    def loss_of(predicted: Tensor, rows: Tensor, batch: list[Tensor], epoch: int) -> Tensor:
        return segments.loss(predicted, rows, epoch)

    def is_late(epoch: int, model: nn.Module) -> bool:
        return run.deadline is not None and time.monotonic() > run.deadline

    return train(model, UnlabeledInputs((samples,), view), loss_of, options, run.with_watch(is_late))
