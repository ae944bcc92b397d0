"""Makes records: runs every stage on every sample, once, with the numerics that ship."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..chain.names import FINAL
from ..core import distributed
from ..core.batching import batches, map_in_threads
from ..errors import ModelError
from ..records import Records, top_k
from .model import DynamicExitModel

logger = logging.getLogger(__name__)

#: Classes kept per sample; with `fuse: mean` classes beyond these count as 0.
KEPT_CLASSES = 20
#: Samples at a time; what a stage answers may depend on it in the last bits.
BATCH_SIZE = 64
# batches from which progress is said
_MANY = 100


@dataclass(frozen=True, eq=False)
class Answers:
    """What one stage answers.

    Attributes:
        classes: int32 (N, K), most probable first.
        probabilities: float32 (N, K), decreasing.
    """

    classes: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Classes and probabilities: what `Answers` takes."""
        return self.classes, self.probabilities

    @classmethod
    def of(cls, stage: str, logits: Tensor, first: int = 0) -> "Answers":
        """Take the answers from logits (N, C); the first row is sample number `first`.

        Raises:
            ModelError: The stage gives NaN.
        """
        probabilities = torch.softmax(logits.float(), dim=1).numpy()
        wrong = np.flatnonzero(np.isnan(probabilities).any(axis=1))
        if len(wrong):
            sample = first + int(wrong[0])
            raise ModelError(f"stage '{stage}' gives NaN, first for sample {sample}; check its weights and inputs")
        return cls(*top_k(probabilities, KEPT_CLASSES))

    @classmethod
    def join(cls, parts: Sequence["Answers"]) -> "Answers":
        """Put answers for other samples one after the other; at least one part."""
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
    """Run one stage, a batch at a time.

    Args:
        stage: Its name, for messages.
        run: Takes the inputs as tensors and gives logits (N, C).
        inputs: The model's inputs, each (N, ...).
        start: First sample that is answered: a multiple of the batch size.
        stop: Sample before which to stop; None for all.
        workers: Batches that are run at a time, each in a thread.

    Returns:
        The answers batch by batch.

    Raises:
        ModelError: The stage gives NaN.
    """

    @torch.no_grad()
    def answer(numbered: tuple[int, tuple[np.ndarray, ...]]) -> Answers:
        number, batch = numbered
        return Answers.of(stage, run(*map(torch.from_numpy, batch)), start + number * BATCH_SIZE)

    return map_in_threads(answer, enumerate(batches([array[start:stop] for array in inputs], BATCH_SIZE)), workers)


def make_records(
    model: DynamicExitModel,
    inputs: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    workers: int = 1,
    **described: Any,
) -> Records:
    """Make the records of a model; processes that work together each run whole batches of their own.

    Args:
        model: Its modules may be torch or onnxruntime.
        inputs: The model's inputs, each (N, ...).
        labels: int64 (N,), -1 where unknown.
        workers: Batches that are run at a time, each in a thread.
        described: Costs and positions of the stages: the keywords of `join_answers`.

    Returns:
        Records with the stages of the model's chain and the final.

    Raises:
        ModelError: A stage gives NaN.
    """
    rows = distributed.shard(len(inputs[0]), BATCH_SIZE)

    @torch.no_grad()
    def answer(numbered: tuple[int, tuple[np.ndarray, ...]]) -> dict[str, Answers]:
        number, batch = numbered
        logits = model.all_stage_logits(*map(torch.from_numpy, batch))
        return {stage: Answers.of(stage, each, rows.start + number * BATCH_SIZE) for stage, each in logits.items()}

    def mine() -> list[np.ndarray]:
        found: dict[str, list[Answers]] = {}
        slices = batches([array[rows.start : rows.stop] for array in inputs], BATCH_SIZE)
        count = -(-len(rows) // BATCH_SIZE)
        tenth = -(-count // 10)
        for done, answers in enumerate(map_in_threads(answer, enumerate(slices), workers), start=1):
            for stage, each in answers.items():
                found.setdefault(stage, []).append(each)
            if count >= _MANY and not done % tenth:
                logger.info(f"records: {done / count:.0%} of {len(inputs[0])} samples")
        return [array for parts in found.values() for array in Answers.join(parts).arrays]

    arrays = distributed.all_gather_rows(mine)
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    answers = {stage: Answers(*pair) for stage, pair in zip((*model.chain, FINAL), pairs, strict=True)}
    return join_answers(answers, labels, **described)


def join_answers(
    answers: Mapping[str, Answers],
    labels: np.ndarray,
    *,
    own_cost: Mapping[str, float],
    prefix_cost: Mapping[str, float],
    positions: Mapping[str, int],
    cost_unit: str,
    requires: Mapping[str, str] | None = None,
) -> Records:
    """Make records of answers.

    Args:
        answers: By stage in chain order, the final last.
        labels: int64 (N,), -1 where unknown.
        own_cost: By stage, the final included.
        prefix_cost: By stage, the final included.
        positions: By exit and the final; savers stand at -1.
        cost_unit: ``macs`` or ``seconds``.
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
        own_cost=np.asarray([own_cost[stage] for stage in stages], dtype=np.float64),
        prefix_cost=np.asarray([prefix_cost[stage] for stage in stages], dtype=np.float64),
        cost_unit=cost_unit,
        requires=np.asarray([stages.index(requires[s]) if s in requires else -1 for s in stages]) if requires else None,
    )
