"""The training loop of passes that train whole models, and its common losses and checks."""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import ParamsT

from ..core import distributed
from ..core.logging import Part
from ..core.memory_pages import release_pages
from ..core.placement import device_of, is_fast_in_bfloat16, repeatable_on
from ..errors import PassError, first_line
from .augment import make_augment
from .choices import OptimizerName

logger = logging.getLogger(__name__)

#: From the model's output, such as logits (B, C), rows int64 (B,), the model's inputs for them and the epoch, from 1,
#: to a scalar loss; output and inputs are where training is.
LossFunction = Callable[[Tensor, Tensor, list[Tensor], int], Tensor]

_WARMUP_SHARE = 0.1
_MAX_GRADIENT_NORM = 1.0
_MOMENTUM = 0.9


class TrainingOptions(Protocol):
    """What a stanza says about training: `learning_rate` is the peak, after a warm-up and before a cosine decay."""

    @property
    def epochs(self) -> int:
        """Passes over the samples."""

    @property
    def batch_size(self) -> int:
        """Samples per step at least, if there are as many."""

    @property
    def learning_rate(self) -> float:
        """Peak rate."""

    @property
    def weight_decay(self) -> float:
        """Of the optimizer."""

    @property
    def augment(self) -> str:
        """Name of an augmentation, see `augment.make_augment`."""


@dataclass(frozen=True)
class LabeledInputs:
    """Samples that a model is trained on.

    Attributes:
        inputs: The model's inputs in order, each (N, ...).
        truth: int64 (N,), the correct class in the accuracy that is logged.
        view: From rows int64 (B,) and the epoch, from 1, to the inputs that are trained on; None takes those of
            `inputs`, augmented as the options say.
    """

    inputs: tuple[Tensor, ...]
    truth: Tensor
    view: Callable[[Tensor, int], Sequence[Tensor]] | None = None

    @property
    def count(self) -> int:
        """Number of samples N."""
        return len(self.truth)


@dataclass(frozen=True)
class UnlabeledInputs:
    """Samples that something is trained on that is no classifier; attributes as in `LabeledInputs`."""

    inputs: tuple[Tensor, ...]
    view: Callable[[Tensor, int], Sequence[Tensor]] | None = None
    truth: ClassVar[None] = None

    @property
    def count(self) -> int:
        """Number of samples N."""
        return len(self.inputs[0])


@dataclass(frozen=True)
class TrainingRun:
    """The seed of a training, and how messages name it.

    Attributes:
        seed: Order of the samples, their augmentation, and dropout.
        name: Of the model, in error messages.
        log_prefix: Precedes the line that is logged for each epoch.
        deadline: Of `time.monotonic`, after which savers that are made begin no further epoch; None for none.
        watch: Called with the number of each epoch, from 1, and the model after it; returns whether to stop.
        layer_decay: Rate of each layer over that of the one behind it; 1 for one rate. The last layer has the full
            rate. A layer begins at each weight of two dimensions or more, in the order in which they are registered.
        optimizer: ``adamw``, or ``sgd`` with Nesterov momentum 0.9, whose gradients are not clipped.
        mixed_precision: Multiply in bfloat16 where training is, if it has units for that; weights and losses stay in
            float32.
    """

    seed: int
    name: str
    log_prefix: str = ""
    deadline: float | None = None
    watch: Callable[[int, nn.Module], bool] | None = None
    layer_decay: float = 1.0
    optimizer: OptimizerName = "adamw"
    mixed_precision: bool = False

    def with_watch(self, watch: Callable[[int, nn.Module], bool]) -> "TrainingRun":
        """Return the same run with a `watch`."""
        return replace(self, watch=watch)


def train(
    model: nn.Module,
    samples: LabeledInputs | UnlabeledInputs,
    loss_of: LossFunction,
    options: TrainingOptions,
    run: TrainingRun,
) -> float:
    """Train a model in place, on a GPU if there is one, and leave it in evaluation mode where it was.

    Args:
        model: Such as a classifier with logits (N, C); all of its parameters are trained. One that fails on the GPU,
            such as one that makes tensors on the CPU, is trained where it is.
        samples: Inputs, passed as `as_model_input` returns them, and for a classifier classes.
        loss_of: The loss.
        options: Epochs, batches and rates.
        run: Seed, and what messages say.

    Returns:
        The mean loss of the last epoch.

    Raises:
        PassError: `augment` does not suit the inputs, or the loss or its gradient became NaN or infinite.
    """
    given = device_of(model)
    device = _training_device(model.eval(), samples)
    mixed = run.mixed_precision and is_fast_in_bfloat16(device)
    model.to(device).train().requires_grad_(True)
    count = samples.count
    batches = max(1, count // options.batch_size)  # a short last batch would disturb the batch statistics
    optimizer = _make_optimizer(model, options, run)
    max_norm = math.inf if run.optimizer == "sgd" else _MAX_GRADIENT_NORM
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_and_cosine(options.epochs * batches))
    generator = torch.Generator().manual_seed(run.seed)
    view = samples.view or _augmented(samples, options.augment, run.seed)
    with torch.random.fork_rng(), repeatable_on(device):
        torch.manual_seed(run.seed)  # dropout uses the global generator
        for epoch in range(1, options.epochs + 1):
            losses, correct = 0.0, 0
            for rows in torch.randperm(count, generator=generator).tensor_split(batches):
                batch = [as_model_input(each).to(device) for each in view(rows, epoch)]
                with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                    output = model(*batch).float()
                loss = loss_of(output, rows, batch, epoch)
                _step(optimizer, loss, max_norm, f"of {run.name} became {{}} in epoch {epoch}; lower its learning_rate")
                schedule.step()
                release_pages()
                losses += loss.item() * len(rows)
                if samples.truth is not None:
                    correct += int((output.argmax(dim=1).to(samples.truth.device) == samples.truth[rows]).sum())
            accuracy = "" if samples.truth is None else f", accuracy {correct / count:.1%}"
            line = f"{run.log_prefix}epoch {epoch} of {options.epochs}: loss {losses / count:.4f}{accuracy}"
            logger.info(line, extra={"part": Part(run.log_prefix.removesuffix(": "), epoch / options.epochs)})
            if run.watch is not None and run.watch(epoch, model):
                break
    model.to(given).eval()
    return losses / count


def _make_optimizer(model: nn.Module, options: TrainingOptions, run: TrainingRun) -> torch.optim.Optimizer:
    parameters = _parameters(model, options.learning_rate, run.layer_decay)
    rate, decay = options.learning_rate, options.weight_decay
    if run.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


def _parameters(model: nn.Module, rate: float, decay: float) -> ParamsT:
    """Return the parameters for an optimizer: all alike, or in layers with rates of their own."""
    if decay == 1:
        return model.parameters()
    layers: list[list[nn.Parameter]] = [[]]
    for parameter in model.parameters():
        if parameter.dim() > 1 and layers[-1]:
            layers.append([])
        layers[-1].append(parameter)
    return [{"params": layer, "lr": rate * decay**depth} for depth, layer in enumerate(reversed(layers))]


def _augmented(
    samples: LabeledInputs | UnlabeledInputs, name: str, seed: int
) -> Callable[[Tensor, int], Sequence[Tensor]]:
    """Return the samples of some rows as an augmentation shows them in some epoch."""
    augment = make_augment(name, samples.count, seed)
    if augment is None:
        return lambda rows, epoch: [each[rows] for each in samples.inputs]
    return lambda rows, epoch: [augment(each[rows], rows, epoch) for each in samples.inputs]


def _training_device(model: nn.Module, samples: LabeledInputs | UnlabeledInputs) -> torch.device:
    """Return where to train a model in evaluation mode: on a GPU if there is one and a copy of the model runs there."""
    given, wanted = device_of(model), distributed.device()
    if given.type == wanted.type:
        return given
    batch = [as_model_input(each[:2]) for each in samples.inputs]
    try:
        with torch.no_grad():
            copy.deepcopy(model).to(wanted)(*(each.to(wanted) for each in batch))
    except Exception as failure:  # code of users may raise anything
        logger.info(f"{type(model).__name__} fails on {wanted} and is trained on {given}: {first_line(failure)}")
        return given
    return wanted


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher_T || student_T) of one batch (arXiv 1503.02531), a scalar; both logits are (B, C)."""
    student, teacher = (functional.log_softmax(each / temperature, dim=1) for each in (logits, teacher_logits))
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def as_model_input(batch: Tensor) -> Tensor:
    """Return images as float; token indices and masks unchanged."""
    return batch if batch.dtype in (torch.int64, torch.int32, torch.bool) else batch.float()


def check_samples(inputs: Sequence[Tensor], labels: Tensor, teacher_logits: Tensor, name: str) -> None:
    """Refuse samples that do not fit each other.

    Args:
        inputs: Each (N, ...).
        labels: int64 (N,), -1 where unknown.
        teacher_logits: Of the backbone, float (N, C).
        name: Of the model that is trained, for messages.

    Raises:
        PassError: Their numbers differ or are below two, logits are NaN or infinite, or a label is no class.
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


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float, complaint: str) -> None:
    optimizer.zero_grad()
    loss.backward()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradient = nn.utils.clip_grad_norm_(parameters, max_norm)
    for name, value in (("loss", loss), ("gradient", gradient)):
        if not torch.isfinite(value):
            raise PassError(f"the {name} {complaint.format(value.item())}")
    optimizer.step()


def _warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    warmup = max(1, round(_WARMUP_SHARE * steps))
    rest = max(1, steps - warmup)
    return lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / rest)))
