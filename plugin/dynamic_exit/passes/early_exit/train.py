"""Training of all exit heads in one loop, on what a frozen backbone gives."""

import contextlib
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core import distributed
from ...errors import PassError
from .checkpoint import load_checkpoint, load_optimizer, optimizer_tensors, save_checkpoint
from .config import Training
from .exit_set import ExitSet, losses, sample_weights
from .features import CachedFeatures, LiveFeatures, alike

logger = logging.getLogger(__name__)

# samples whose features show their mean and deviation
_LOOK = 2048
_EVALUATED = 512


class Trainer:
    """Trains the heads of an `ExitSet`; for each head the weights of its best epoch are kept.

    What an epoch does follows from the seed, the number of the epoch and the weights alone, so that a training that
    goes on from a checkpoint ends where an uninterrupted one does. Processes that work together take the same batches,
    each its own samples of a batch, and add up their gradients.

    Args:
        exits: The heads, in place.
        features: Features and the final's logits of the training split, N samples.
        labels: int64 (N,), -1 where unknown.
        options: Epochs, rates, loss.
        seed: Order of the samples, and which are held out to compare epochs.
        unsure: How unsure the savers are of each sample, float (N,) in 0..1; None where there are none.
        device: Where the heads are trained.
        checkpoint: File that is written after every epoch, or None.
        settings: What a checkpoint must have been made with to go on from it.
        part: The samples of this process, of which it asks `features`; None for all.
    """

    def __init__(
        self,
        exits: ExitSet,
        features: CachedFeatures | LiveFeatures,
        labels: Tensor,
        options: Training,
        seed: int,
        *,
        unsure: Tensor | None = None,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        settings: dict[str, Any] | None = None,
        part: range | None = None,
    ):
        self.exits, self.features, self.options, self.seed = exits, features, options, seed
        self.labels, self.part = labels, range(len(labels)) if part is None else part
        self.unsure = torch.ones(len(labels)) if unsure is None else unsure
        self.device, self.checkpoint, self.settings = torch.device(device), checkpoint, settings
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        held_out = int(options.validation * len(labels))
        self.validation, self.training = order[:held_out].sort().values, order[held_out:]
        self.steps = max(1, len(self.training) // options.batch_size)  # evenly long batches: no short last one
        self.epoch = 0
        self.best = [math.inf] * len(exits.parts)
        self.best_epoch = [0] * len(exits.parts)
        self.best_states: list[dict[str, Tensor]] = [{} for _ in exits.parts]

    def run(self, resume: bool = False) -> None:
        """Train in place and leave the heads in evaluation mode on the CPU.

        Args:
            resume: Go on from the checkpoint, where there is one.

        Raises:
            PassError: The loss of a head became NaN or infinite, or the checkpoint belongs to another training.
        """
        self._prepare()
        self.exits.to(self.device)
        distributed.share([*self.exits.state_dict().values()])
        fused = all(each.device.type in ("cpu", "cuda") for each in self.exits.parameters())
        self.optimizer = torch.optim.AdamW(
            self.exits.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay, fused=fused
        )
        if resume and self.checkpoint and distributed.led(self.checkpoint.exists):
            self._resume()
        while self.epoch < self.options.epochs and not self._stalled():
            loss = self._train_epoch()
            accuracy = self._validate()
            self.epoch += 1
            self._save()
            self._report(loss, accuracy)
        for (part, _), state in zip(self.exits.parts, self.best_states, strict=True):
            part.load_state_dict(state)
        distributed.share([*self.exits.state_dict().values()])
        self.exits.to("cpu").eval()

    def _prepare(self) -> None:
        """Let every head see features of some samples."""
        rows = self._mine(self.training[:_LOOK].sort().values)

        def look() -> list[np.ndarray]:
            parts = [self.features.batch(each, 0)[0] for each in rows.split(256)]
            return [torch.cat([part[key] for part in parts]).numpy() for key in self.exits.seen if len(rows)]

        found = map(torch.from_numpy, distributed.gathered(look))
        self.exits.prepare(dict(zip(self.exits.seen, found, strict=True)))

    def _mine(self, rows: Tensor) -> Tensor:
        """Return those rows that this process looks after."""
        return rows[(rows >= self.part.start) & (rows < self.part.stop)]

    def _train_epoch(self) -> Tensor:
        """Return the mean loss of each head (S,)."""
        self.exits.train()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = self.training[torch.randperm(len(self.training), generator=generator)]
        total = torch.zeros(len(self.exits.names), device=self.device)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed * 1_000_003 + self.epoch)  # for heads that draw numbers, such as dropout
            for step, rows in enumerate(order.tensor_split(self.steps)):
                for group in self.optimizer.param_groups:
                    group["lr"] = self._rate(self.epoch * self.steps + step)
                each, _ = self._losses(rows, self.epoch)
                self.optimizer.zero_grad()
                if each.requires_grad:
                    each.sum().backward()
                each = each.detach()
                self._add_up(each)
                self._check(each)
                self.optimizer.step()
                total += each
        return total / self.steps

    def _losses(self, rows: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return what this process's samples add to the weighted mean loss of each head over rows, and are right (S,).

        Both are zeros where none of the rows is its own.
        """
        mine, none = self._mine(rows), torch.zeros(len(self.exits.names), device=self.device)

        def mean(values: Tensor) -> Tensor:
            # over all rows; in one process the plain mean
            return values.mean(1) if len(mine) == len(rows) else values.sum(1) / len(rows)

        def mean_of_all(values: Tensor) -> Tensor:
            found = mean(values)
            distributed.add([found])
            return found

        if not len(mine):
            if self.options.weighting != "none":
                distributed.add([none.double()])  # the others wait for this, in float64 as `sample_weights` adds
            return none, none
        features, final = self.features.batch(mine, epoch)
        features = {key: value.to(self.device) for key, value in features.items()}
        labels, final, before = (each.to(self.device) for each in (self.labels[mine], final, self.unsure[mine]))
        with self._precision():
            logits = self.exits(features)
        loss = losses(logits, labels, final, self.options.distillation)
        share = sample_weights(logits, self.exits.groups, before, self.options, mean_of_all)
        truth = torch.where(labels >= 0, labels, final.argmax(1))
        return mean(loss if share is None else loss * share), (logits.argmax(2) == truth).sum(1)

    def _add_up(self, each: Tensor) -> None:
        """Add up gradients and losses over all processes, in place."""
        if distributed.world() == 1:
            return
        for parameter in self.exits.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        distributed.add([*(parameter.grad for parameter in self.exits.parameters()), each])

    def _precision(self) -> contextlib.AbstractContextManager:
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()

    def _rate(self, step: int) -> float:
        """Rate of one step: rises in a line, falls in half a cosine."""
        total = self.options.epochs * self.steps
        rising = int(self.options.warmup * total)
        if step < rising:
            return self.options.learning_rate * (step + 1) / (rising + 1)
        return self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

    def _check(self, each: Tensor) -> None:
        if torch.isfinite(each.sum()):
            return
        worst = int((~torch.isfinite(each)).nonzero()[0])
        kept = f", the checkpoint of epoch {self.epoch} is kept" if self.checkpoint and self.epoch else ""
        raise PassError(
            f"the loss of exit head '{self.exits.names[worst]}' became {each[worst].item()} in epoch {self.epoch + 1}; "
            f"lower `learning_rate`{kept}"
        )

    @torch.no_grad()
    def _validate(self) -> Tensor | None:
        """Keep the weights of heads that are better than before; return accuracies (S,) on the samples held out."""
        if not len(self.validation):
            self._keep(range(len(self.exits.parts)))
            return None
        self.exits.eval()
        total, right = torch.zeros(2, len(self.exits.names), dtype=torch.float64)
        for rows in self.validation.split(_EVALUATED):
            each, found = self._losses(rows, 0)
            total += each.double().cpu() * len(rows)
            right += found.double().cpu()
        distributed.add([total, right])
        means = [float(total[places].mean()) / len(self.validation) for _, places in self.exits.parts]
        better = [index for index, mean in enumerate(means) if mean < self.best[index]]
        for index in better:
            self.best[index], self.best_epoch[index] = means[index], self.epoch
        self._keep(better)
        return right / len(self.validation)

    def _keep(self, which) -> None:
        for index in which:
            state = self.exits.parts[index][0].state_dict()
            self.best_states[index] = {name: value.detach().clone() for name, value in state.items()}

    def _stalled(self) -> bool:
        return bool(len(self.validation)) and self.epoch - 1 - max(self.best_epoch) >= self.options.patience

    def _report(self, loss: Tensor, accuracy: Tensor | None) -> None:
        if self.epoch % max(1, self.options.epochs // 10) and self.epoch < self.options.epochs:
            return
        held_out = (
            f", accuracy on samples held out {accuracy.min():.1%} to {accuracy.max():.1%}"
            if accuracy is not None
            else ""
        )
        logger.info(f"exits, epoch {self.epoch} of {self.options.epochs}: mean loss {loss.mean():.3f}{held_out}")

    def _save(self) -> None:
        if self.checkpoint is None or not distributed.main():
            return
        tensors = {f"model.{name}": value for name, value in self.exits.state_dict().items()}
        for index, state in enumerate(self.best_states):
            tensors |= {f"best.{index}.{name}": value for name, value in state.items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        tensors["probe"] = self.features.probe()
        state = {"epoch": self.epoch, "best": self.best, "best_epoch": self.best_epoch, "settings": self.settings}
        save_checkpoint(self.checkpoint, tensors, state)

    def _resume(self) -> None:
        tensors, state = load_checkpoint(self.checkpoint)
        same = state["settings"] == self.settings
        if not distributed.led(lambda: same and alike(tensors["probe"], self.features.probe())):
            raise PassError(
                f"checkpoint '{self.checkpoint}' was made with other heads, settings, data or backbone; remove it, or "
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
        logger.info(f"exits: training goes on after epoch {self.epoch}")
