"""Makers whose savers are trained by distillation from the backbone's answers."""

import copy
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....core.batching import DEFAULT_BATCH_SIZE
from ....core.memory_pages import release_pages
from ....core.placement import device_of
from ....cost import count_macs
from ...training import LabeledInputs, TrainingRun, as_model_input, distillation_loss, train
from .base import Architecture, MadeSaver, SaverMaker
from .stanza import MIXED_FROM, MakerStanza, Schedule, TrainedMakerStanza
from .teaching import Teaching
from .views import Views

#: Samples that an untrained model may look at.
PREPARED_SAMPLES = 512

# channels of an image's convolution that can be trained channels last
_NARROWEST = 8

logger = logging.getLogger(__name__)


class TrainedMaker(SaverMaker):
    """Base of makers whose savers learn by gradients: a subclass says only what could be built."""

    Options: ClassVar[type[MakerStanza]] = TrainedMakerStanza

    def views(self, inputs: Mapping[str, Tensor], seed: int, rows: Tensor) -> Views:
        """Return the views on which savers are trained; rows, int64 (M,), are those that are not held out."""
        return Views(inputs, self.stanza.augment, self.stanza.mix, seed, rows, self.stanza.plain_view)

    @cached_property
    def schedule(self) -> Schedule:
        """How long savers are trained on the samples of the task."""
        schedule: Schedule = self.stanza.schedule(len(next(iter(self.task.inputs.values()))))
        return schedule

    @property
    def views_taught(self) -> int:
        """Views of the training split that the backbone answers."""
        return self.schedule.views

    def training_steps(self, samples: int) -> tuple[int, int]:
        """Return the number of training steps if patience ends none, and samples in each."""
        schedule = self.stanza.schedule(samples)
        return schedule.steps, min(schedule.batch_size, samples - int(self.stanza.validation * samples))

    def prepare(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        """Look at some training samples before an untrained model is trained; by default nothing is done."""

    def pretrain(self, model: nn.Module, inputs: tuple[Tensor, ...], rows: Tensor, run: TrainingRun) -> TrainingRun:
        """Train a model on samples alone, before the backbone teaches it; by default nothing is done.

        Args:
            model: Untrained, in place.
            inputs: As `input_names` says, each (N, ...).
            rows: int64 (M,), of the samples to train on; the others select the best epoch.
            run: Seed, name for messages, and deadline.

        Returns:
            The run in which the backbone teaches.
        """
        return run

    def fit(self, architecture: Architecture, teaching: Teaching, run: TrainingRun) -> MadeSaver:
        """Train a model; see `SaverMaker.fit`.

        The loss of a batch is (1 - d) CE + d T^2 KL(backbone_T || saver_T) with d = `distillation`, T = `temperature`
        (arXiv 1503.02531); on a mixed view it is the second term alone. The epoch is kept that is most often right on
        the held-out part of the split; of several, the one with the smallest cross-entropy there.
        """
        with torch.random.fork_rng():
            torch.manual_seed(run.seed)
            model = self.build(architecture)
        self.prepare(model, teaching.plain(torch.arange(min(len(teaching), PREPARED_SAMPLES))))
        order = torch.randperm(len(teaching), generator=torch.Generator().manual_seed(run.seed))
        held_out = order[: int(self.stanza.validation * len(order))]
        rows = order[len(held_out) :].sort().values
        inputs = tuple(teaching.inputs[name] for name in self.input_names)
        run = replace(run, mixed_precision=self._mixes_precisions(model, inputs))
        run = replace(self.pretrain(model, inputs, rows, run), optimizer=self.stanza.optimizer)
        views = self.views(teaching.inputs, run.seed, rows)
        count = self.views_taught
        logits = [teaching.logits(views.name(view), partial(views, view=view)) for view in range(count)]

        def inputs_of(chosen: Tensor, epoch: int) -> list[Tensor]:
            batch = views(rows[chosen], (epoch - 1) % count)
            return [batch[name] for name in self.input_names]

        def loss_of(answer: Tensor, chosen: Tensor, batch: list[Tensor], epoch: int) -> Tensor:
            view = (epoch - 1) % count
            taught = logits[view][rows[chosen]].to(answer.device)
            distilled = distillation_loss(answer, taught, self.stanza.temperature)
            share = 1.0 if views.is_mixed(view) else self.stanza.distillation
            if share == 1.0:
                return distilled
            labels = teaching.truth[rows[chosen]].to(answer.device)
            return (1 - share) * functional.cross_entropy(answer, labels) + share * distilled

        best = _BestEpoch(self, teaching, held_out, run)
        samples = LabeledInputs(inputs, teaching.truth[rows], inputs_of)
        try:
            if _is_safe_channels_last(model):
                model.to(memory_format=torch.channels_last)  # convolutions of images train faster
            train(model, samples, loss_of, self.schedule, run.with_watch(best))
        finally:
            model.to(memory_format=torch.contiguous_format)
        best.restore(model)
        return MadeSaver(architecture, model.eval())

    def _mixes_precisions(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
        wanted: bool | None = self.stanza.mixed_precision
        if wanted is None:
            return count_macs(model.eval(), [as_model_input(each[:2]) for each in inputs]) >= MIXED_FROM
        return wanted


def _is_safe_channels_last(model: nn.Module) -> bool:
    """Whether no convolution is so narrow that oneDNN writes beyond its memory in the backward pass, on AVX2."""
    widths = [each.out_channels for each in model.modules() if isinstance(each, nn.Conv2d)]
    return min(widths, default=_NARROWEST) >= _NARROWEST


class _BestEpoch:
    """Keeps the best epoch by the share of held-out samples that are right, then by loss; tells when to stop."""

    def __init__(self, maker: TrainedMaker, teaching: Teaching, rows: Tensor, run: TrainingRun):
        self.maker, self.teaching, self.rows, self.run = maker, teaching, rows, run
        self.state: dict[str, Tensor] | None = None
        self.best, self.epoch = (-1.0, 0.0), 0

    def __call__(self, epoch: int, model: nn.Module) -> bool:
        """Look at a model after an epoch; returns whether to stop."""
        late = self.run.deadline is not None and time.monotonic() > self.run.deadline
        if late and epoch < self.maker.schedule.epochs:
            logger.info(f"{self.run.log_prefix}time is over after epoch {epoch}; the best epoch so far is used")
        if not len(self.rows):
            return late
        score = self._score(model)
        if score > self.best:
            self.best, self.epoch = score, epoch
            self.state = copy.deepcopy(model.state_dict())
        return late or epoch - self.epoch >= self.maker.schedule.patience

    def restore(self, model: nn.Module) -> None:
        """Put the weights of the best epoch back."""
        if self.state is not None:
            model.load_state_dict(self.state)
            logger.info(f"{self.run.log_prefix}best of the held-out samples in epoch {self.epoch}: {self.best[0]:.1%}")

    def _score(self, model: nn.Module) -> tuple[float, float]:
        """Return the share of held-out samples that are right, and less their mean cross-entropy."""
        device, correct, loss = device_of(model), 0, 0.0
        model.eval()
        with torch.no_grad():
            for rows in self.rows.split(DEFAULT_BATCH_SIZE):
                batch = [as_model_input(self.teaching.inputs[name][rows]).to(device) for name in self.maker.input_names]
                logits, truth = model(*batch).float().cpu(), self.teaching.truth[rows]
                correct += int((logits.argmax(dim=1) == truth).sum())
                loss += float(functional.cross_entropy(logits, truth, reduction="sum"))
                release_pages()
        model.train()
        return correct / len(self.rows), -loss / len(self.rows)
