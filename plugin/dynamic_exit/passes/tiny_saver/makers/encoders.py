"""Makers whose networks have an encoder, which can be pre-trained on masked samples before the backbone teaches."""

import time
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from ...pretraining import PretrainStanza, train_masked
from ...training import TrainingRun
from .stanza import MakerStanza, TrainedMakerStanza
from .trained import TrainedMaker


class MakerPretrainStanza(PretrainStanza):
    """Masked pre-training of savers: segments of the inputs are masked, and the network learns to fill them in."""

    layer_decay: float = Field(
        0.75, gt=0, le=1, description="afterwards: rate of each layer over that of the one behind it; 1: one rate"
    )


class EncoderMakerStanza(TrainedMakerStanza):
    """Savers whose encoder can be pre-trained."""

    pretrain: MakerPretrainStanza | None = Field(
        None, description="masked pre-training on all training samples, before the backbone teaches; null: none"
    )


class EncoderMaker(TrainedMaker):
    """Base of makers for one input, whose networks are an encoder and a head."""

    Options: ClassVar[type[MakerStanza]] = EncoderMakerStanza

    @abstractmethod
    def encoder(self, model: nn.Module) -> nn.Module:
        """Return the part of a model that gives features by position, as `dynamic_exit.pretrain` takes it."""

    def training_steps(self, samples: int) -> tuple[int, int]:
        """Return the number of training steps if patience ends none, and samples in each, with those on masked ones."""
        steps, size = super().training_steps(samples)
        epochs = 0 if self.stanza.pretrain is None else self.stanza.pretrain.epochs
        return steps + epochs * self.stanza.schedule(samples).steps_per_epoch, size

    def pretrain(self, model: nn.Module, inputs: tuple[Tensor, ...], rows: Tensor, run: TrainingRun) -> TrainingRun:
        """Pre-train the encoder if the recipe says so, in at most half of the time that is left."""
        options = self.stanza.pretrain
        if options is None:
            return run
        now = time.monotonic()
        deadline = None if run.deadline is None else min(run.deadline, (now + run.deadline) / 2)
        (samples,) = inputs
        masked_run = replace(run, log_prefix=f"{run.log_prefix}pre-training, ", deadline=deadline)
        train_masked(self.encoder(model), samples[rows], options, masked_run)
        return replace(run, layer_decay=options.layer_decay)
