"""Training of all exit heads in one loop, on the features of a frozen backbone."""

import contextlib
import logging
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ...core import distributed
from ...core.placement import repeatable_on
from ...errors import PassError
from .checkpoint import TrainingCheckpoint, load_checkpoint, load_optimizer, optimizer_tensors, save_checkpoint
from .exit_set import ExitSet, losses, sample_weights
from .features import FeatureSource, are_close
from .options import ExitTraining

logger = logging.getLogger(__name__)

# samples from whose features heads estimate mean and deviation
_PREPARED_SAMPLES = 2048
_VALIDATION_BATCH = 512


class Trainer:
    """Trains the heads of an `ExitSet` and keeps, for each head, the weights of its best epoch.

    An epoch depends on the seed, its number and the weights alone, so that a training that continues from a checkpoint
    ends where an uninterrupted one does. Several processes go through the same batches, each with its own samples of a
    batch, and sum their gradients.

    Args:
        exits: The heads; they are trained in place.
        features: Features and final logits of the training split, N samples.
        labels: int64 (N,), -1 where unknown.
        training: Epochs, rates, loss, seed and device.
        uncertainty: Of the savers for each sample, float (N,) in 0..1; None without savers.
        checkpoint: Written after every epoch; None writes none.
    """

    def __init__(
        self,
        exits: ExitSet,
        features: FeatureSource,
        labels: Tensor,
        training: ExitTraining,
        *,
        uncertainty: Tensor | None = None,
        checkpoint: TrainingCheckpoint | None = None,
    ):
        self.exits, self.features, self.labels = exits, features, labels
        self.options, self.seed = training.stanza.training, training.seed
        self.uncertainty = torch.ones(len(labels)) if uncertainty is None else uncertainty
        self.device, self.checkpoint = torch.device(training.device or distributed.device()), checkpoint
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        held_out = int(self.options.validation * len(labels))
        self.validation, self.training = order[:held_out].sort().values, order[held_out:]
        self.steps = max(1, len(self.training) // self.options.batch_size)  # batches of equal size, no short last one
        self.epoch = 0
        self.best = [math.inf] * len(exits.parts)
        self.best_epoch = [0] * len(exits.parts)
        self.best_states: list[dict[str, Tensor]] = [{} for _ in exits.parts]

    def run(self, resume: bool = False) -> None:
        """Train in place and leave the heads in evaluation mode on the CPU.

        Args:
            resume: Continue from the checkpoint, if there is one.

        Raises:
            PassError: The loss of a head became NaN or infinite, or the checkpoint belongs to another training.
        """
        self._prepare()
        self.exits.to(self.device)
        distributed.broadcast([*self.exits.state_dict().values()])
        fused = all(each.device.type in ("cpu", "cuda") for each in self.exits.parameters())
        self.optimizer = torch.optim.AdamW(
            self.exits.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay, fused=fused
        )
        if resume and self.checkpoint and distributed.run_on_main(self.checkpoint.path.exists):
            self._resume(self.checkpoint)
        with repeatable_on(self.device):
            while self.epoch < self.options.epochs and not self._stalled():
                loss = self._train_epoch()
                accuracy = self._validate()
                self.epoch += 1
                self._save()
                self._report(loss, accuracy)
        for (part, _), state in zip(self.exits.parts, self.best_states, strict=True):
            part.load_state_dict(state)
        distributed.broadcast([*self.exits.state_dict().values()])
        self.exits.to("cpu").eval()

    def _prepare(self) -> None:
        """Let every head look at the features of some samples."""
        rows = self._own(self.training[:_PREPARED_SAMPLES].sort().values)
        keys = self.exits.feature_keys

        def own_features() -> list[np.ndarray]:
            parts = [self.features.batch(each, 0)[0] for each in rows.split(256)]
            return [torch.cat([part[key] for part in parts]).numpy() for key in keys if len(rows)]

        features = map(torch.from_numpy, distributed.all_gather_rows(own_features))
        self.exits.prepare(dict(zip(keys, features, strict=True)))

    def _own(self, rows: Tensor) -> Tensor:
        """Return the rows whose samples belong to this process."""
        part = self.features.part
        return rows[(rows >= part.start) & (rows < part.stop)]

    def _train_epoch(self) -> Tensor:
        """Return the mean loss of each head (S,)."""
        self.exits.train()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = self.training[torch.randperm(len(self.training), generator=generator)]
        total = torch.zeros(len(self.exits.names), device=self.device)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed * 1_000_003 + self.epoch)  # for heads with dropout and the like
            for step, rows in enumerate(order.tensor_split(self.steps)):
                for group in self.optimizer.param_groups:
                    group["lr"] = self._rate(self.epoch * self.steps + step)
                loss, _ = self._losses(rows, self.epoch)
                self.optimizer.zero_grad()
                if loss.requires_grad:
                    loss.sum().backward()
                loss = loss.detach()
                self._sum_over_processes(loss)
                self._check(loss)
                self.optimizer.step()
                total += loss
        return total / self.steps

    def _losses(self, rows: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the share of this process's samples in each head's mean loss over rows, and how many are correct (S,).

        Both are zeros if none of the rows belongs to this process.
        """
        own, none = self._own(rows), torch.zeros(len(self.exits.names), device=self.device)

        def mean(values: Tensor) -> Tensor:
            # over all rows; in a single process the plain mean
            return values.mean(1) if len(own) == len(rows) else values.sum(1) / len(rows)

        def mean_of_all(values: Tensor) -> Tensor:
            means = mean(values)
            distributed.all_reduce_sum([means])
            return means

        if not len(own):
            if self.options.weighting != "none":
                distributed.all_reduce_sum([none.double()])  # the others wait for this; float64 as in `sample_weights`
            return none, none
        features, final = self.features.batch(own, epoch)
        features = {key: value.to(self.device) for key, value in features.items()}
        labels, final, before = (each.to(self.device) for each in (self.labels[own], final, self.uncertainty[own]))
        with self._precision():
            logits = self.exits(features)
        loss = losses(logits, labels, final, self.options.distillation)
        weights = sample_weights(logits, self.exits.groups, before, self.options, mean_of_all)
        truth = torch.where(labels >= 0, labels, final.argmax(1))
        return mean(loss if weights is None else loss * weights), (logits.argmax(2) == truth).sum(1)

    def _sum_over_processes(self, loss: Tensor) -> None:
        """Sum gradients and losses over all processes, in place."""
        if distributed.world_size() == 1:
            return
        gradients = []
        for parameter in self.exits.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        distributed.all_reduce_sum([*gradients, loss])

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then half a cosine down to 0."""
        total = self.options.epochs * self.steps
        warmup = int(self.options.warmup * total)
        if step < warmup:
            return self.options.learning_rate * (step + 1) / (warmup + 1)
        return self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    def _check(self, loss: Tensor) -> None:
        if torch.isfinite(loss.sum()):
            return
        worst = int((~torch.isfinite(loss)).nonzero()[0])
        kept = f", the checkpoint of epoch {self.epoch} is kept" if self.checkpoint and self.epoch else ""
        raise PassError(
            f"the loss of exit head '{self.exits.names[worst]}' became {loss[worst].item()} in epoch {self.epoch + 1}; "
            f"lower `learning_rate`{kept}"
        )

    @torch.no_grad()
    def _validate(self) -> Tensor | None:
        """Keep the weights of heads that improved; return the validation accuracies (S,), None without such samples."""
        if not len(self.validation):
            self._keep(range(len(self.exits.parts)))
            return None
        self.exits.eval()
        total, correct = torch.zeros(2, len(self.exits.names), dtype=torch.float64)
        for rows in self.validation.split(_VALIDATION_BATCH):
            loss, hits = self._losses(rows, 0)
            total += loss.double().cpu() * len(rows)
            correct += hits.double().cpu()
        distributed.all_reduce_sum([total, correct])
        means = [float(total[indices].mean()) / len(self.validation) for _, indices in self.exits.parts]
        better = [index for index, mean in enumerate(means) if mean < self.best[index]]
        for index in better:
            self.best[index], self.best_epoch[index] = means[index], self.epoch
        self._keep(better)
        return correct / len(self.validation)

    def _keep(self, parts: Iterable[int]) -> None:
        for index in parts:
            state = self.exits.parts[index][0].state_dict()
            self.best_states[index] = {name: value.detach().clone() for name, value in state.items()}

    def _stalled(self) -> bool:
        return bool(len(self.validation)) and self.epoch - 1 - max(self.best_epoch) >= self.options.patience

    def _report(self, loss: Tensor, accuracy: Tensor | None) -> None:
        if self.epoch % max(1, self.options.epochs // 10) and self.epoch < self.options.epochs:
            return
        validation = "" if accuracy is None else f", validation accuracy {accuracy.min():.1%} to {accuracy.max():.1%}"
        logger.info(f"exits, epoch {self.epoch} of {self.options.epochs}: mean loss {loss.mean():.3f}{validation}")

    def _save(self) -> None:
        if self.checkpoint is None or not distributed.is_main_process():
            return
        tensors = {f"model.{name}": value for name, value in self.exits.state_dict().items()}
        for index, state in enumerate(self.best_states):
            tensors |= {f"best.{index}.{name}": value for name, value in state.items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        tensors["probe"] = self.features.probe()
        save_checkpoint(
            self.checkpoint.path,
            tensors,
            {
                "epoch": self.epoch,
                "best": self.best,
                "best_epoch": self.best_epoch,
                "settings": self.checkpoint.settings,
            },
        )

    def _resume(self, checkpoint: TrainingCheckpoint) -> None:
        tensors, state = load_checkpoint(checkpoint.path)
        same = state["settings"] == checkpoint.settings
        if not distributed.run_on_main(lambda: same and are_close(tensors["probe"], self.features.probe())):
            raise PassError(
                f"checkpoint '{checkpoint.path}' was made with other heads, settings, data or backbone; remove it, or "
                "run without resume"
            )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind in parts:
                parts[kind][rest] = value
        self.exits.load_state_dict(parts["model"])
        load_optimizer(self.optimizer, parts["optimizer"])
        for name, value in parts["best"].items():
            index, _, rest = name.partition(".")
            self.best_states[int(index)][rest] = value
        self.epoch, self.best, self.best_epoch = state["epoch"], state["best"], state["best_epoch"]
        logger.info(f"exits: training continues after epoch {self.epoch}")
