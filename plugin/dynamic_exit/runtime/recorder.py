"""Records: every stage runs on every sample once, as it is exported."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..chain.names import FINAL
from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, batches, map_in_threads
from ..core.placement import device_of
from ..cost import ChainCost
from ..errors import ModelError
from ..records import Records, top_k
from .model import DynamicExitModel

logger = logging.getLogger(__name__)

#: Classes kept per sample; with `fuse: mean` classes beyond these count as 0.
KEPT_CLASSES = 20
# batches from which progress is logged
_PROGRESS_MIN_BATCHES = 100


@dataclass(frozen=True, eq=False)
class Answers:
    """The predictions of one stage.

    Attributes:
        classes: int32 (N, K), most probable first.
        probabilities: float32 (N, K) in 0..1, decreasing.
    """

    classes: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Classes and probabilities: the arguments of `Answers`."""
        return self.classes, self.probabilities

    @classmethod
    def of(cls, stage: str, logits: Tensor, first: int = 0) -> "Answers":
        """Return the answers for logits (N, C); the first row is sample number `first`.

        Raises:
            ModelError: A logit is NaN.
        """
        probabilities = torch.softmax(logits.float(), dim=1).cpu().numpy()
        wrong = np.flatnonzero(np.isnan(probabilities).any(axis=1))
        if len(wrong):
            sample = first + int(wrong[0])
            raise ModelError(f"stage '{stage}' gives NaN, first for sample {sample}; check its weights and inputs")
        return cls(*top_k(probabilities, KEPT_CLASSES))

    @classmethod
    def join(cls, parts: Sequence["Answers"]) -> "Answers":
        """Concatenate the answers for consecutive samples, at least one part."""
        return cls(
            np.concatenate([part.classes for part in parts]), np.concatenate([part.probabilities for part in parts])
        )


def answer_batches(
    stage: str,
    run: Callable[..., Tensor],
    inputs: Sequence[np.ndarray],
    start: int = 0,
    stop: int | None = None,
    workers: int = 1,
) -> Iterator[Answers]:
    """Run one stage in batches.

    Args:
        stage: Its name, for messages.
        run: Maps the inputs as tensors to logits (N, C).
        inputs: The inputs of the stage, each (N, ...).
        start: First sample to run, a multiple of the batch size.
        stop: Sample to stop before; None for all.
        workers: Batches that run at the same time, each in a thread.

    Returns:
        The answers of one batch after the other.

    Raises:
        ModelError: A logit is NaN.
    """

    @torch.no_grad()
    def answer(numbered: tuple[int, tuple[np.ndarray, ...]]) -> Answers:
        number, batch = numbered
        return Answers.of(stage, run(*map(torch.from_numpy, batch)), start + number * DEFAULT_BATCH_SIZE)

    return map_in_threads(
        answer, enumerate(batches([array[start:stop] for array in inputs], DEFAULT_BATCH_SIZE)), workers
    )


def make_records(
    model: DynamicExitModel,
    inputs: Sequence[np.ndarray],
    labels: np.ndarray,
    costs: ChainCost,
    positions: Mapping[str, int],
    *,
    requires: Mapping[str, str] | None = None,
    workers: int = 1,
) -> Records:
    """Make the records of a model; in a distributed run each process runs whole batches of its own.

    Args:
        model: Its modules may run in torch, on any device, or in onnxruntime.
        inputs: The model's inputs, each (N, ...).
        labels: int64 (N,), -1 if unknown.
        costs: Of the stages.
        positions: As for `join_answers`.
        requires: As for `join_answers`.
        workers: Batches that run at the same time, each in a thread.

    Returns:
        Records of the stages of the model's chain and of the final stage.

    Raises:
        ModelError: A logit is NaN.
    """
    rows, device = distributed.shard(len(inputs[0]), DEFAULT_BATCH_SIZE), device_of(model)

    @torch.no_grad()
    def answer(numbered: tuple[int, tuple[np.ndarray, ...]]) -> dict[str, Answers]:
        number, batch = numbered
        logits = model.all_stage_logits(*(torch.from_numpy(array).to(device) for array in batch))
        return {
            stage: Answers.of(stage, each, rows.start + number * DEFAULT_BATCH_SIZE) for stage, each in logits.items()
        }

    def mine() -> list[np.ndarray]:
        found: dict[str, list[Answers]] = {}
        slices = batches([array[rows.start : rows.stop] for array in inputs], DEFAULT_BATCH_SIZE)
        count = -(-len(rows) // DEFAULT_BATCH_SIZE)
        tenth = -(-count // 10)
        made: Iterator[dict[str, Answers]] = map_in_threads(answer, enumerate(slices), workers)
        for done, answers in enumerate(made, start=1):
            for stage, each in answers.items():
                found.setdefault(stage, []).append(each)
            if count >= _PROGRESS_MIN_BATCHES and not done % tenth:
                logger.info(f"records: {done / count:.0%} of {len(inputs[0])} samples")
        return [array for parts in found.values() for array in Answers.join(parts).arrays]

    arrays = distributed.all_gather_rows(mine)
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    answers = {stage: Answers(*pair) for stage, pair in zip((*model.chain, FINAL), pairs, strict=True)}
    return join_answers(answers, labels, costs, positions, requires)


def join_answers(
    answers: Mapping[str, Answers],
    labels: np.ndarray,
    costs: ChainCost,
    positions: Mapping[str, int],
    requires: Mapping[str, str] | None = None,
) -> Records:
    """Make records of the answers of all stages.

    Args:
        answers: By stage in chain order, the final stage last.
        labels: int64 (N,), -1 if unknown.
        costs: Of the stages.
        positions: Of the exits and the final stage; savers have -1.
        requires: Exit -> the saver that must run wherever the exit is in use.

    Returns:
        The records.
    """
    stages = tuple(answers)
    return Records(
        labels=np.asarray(labels).astype(np.int64),
        stages=stages,
        kinds=tuple(FINAL if s == stages[-1] else "exit" if s in positions else "saver" for s in stages),
        positions=np.asarray([positions.get(stage, -1) for stage in stages], dtype=np.int64),
        topk_classes=np.stack([each.classes for each in answers.values()]),
        topk_probabilities=np.stack([each.probabilities for each in answers.values()]),
        own_cost=np.asarray([costs.own[stage] for stage in stages], dtype=np.float64),
        prefix_cost=np.asarray([costs.prefix[stage] for stage in stages], dtype=np.float64),
        cost_unit=costs.unit,
        requires=np.asarray([stages.index(requires[s]) if s in requires else -1 for s in stages]) if requires else None,
    )
