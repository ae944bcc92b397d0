"""What one stage answers on the calibration split: made once, found again, and taken up where it was interrupted."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ...core import distributed
from ...core.cache import Cache
from ...core.file_archive import array_from_bytes, array_to_bytes
from ...core.hashing import digest
from ...runtime.recorder import BATCH_SIZE, Answers, answer_batches

#: An interrupted recording loses at most so much: batches, and seconds where batches are slow.
BATCHES, SECONDS = 20, 10.0


def record(
    cache: Cache,
    key: str,
    stage: str,
    run: Callable[..., Tensor],
    inputs: Sequence[np.ndarray],
    progress: Callable[[float], None] = lambda share: None,
    workers: int = 1,
) -> Answers:
    """Return what a stage answers, bit for bit the same whether it is found or made.

    Args:
        cache: Where it may be found, and where it is kept.
        key: Covers the stage's numerics and the inputs.
        stage: Its name, for messages.
        run: Takes the inputs as tensors and gives logits (N, C).
        inputs: The model's inputs, each (N, ...).
        progress: Takes the share of samples that are answered.
        workers: Batches that are run at a time, each in a thread.

    Returns:
        The answers.

    Raises:
        ModelError: The stage gives NaN.
    """
    found = _read(cache, key)
    if found is None:
        rows = distributed.shard(len(inputs[0]), BATCH_SIZE)
        unfinished = digest("unfinished", key, str(rows))
        arrays = distributed.all_gather_rows(
            lambda: _run(cache, unfinished, rows, stage, run, inputs, progress, workers)
        )
        found = Answers(*arrays)
        _write(cache, key, found)
        with distributed.single_process():
            cache.drop(unfinished)
    progress(1.0)
    return found


def _run(cache: Cache, unfinished: str, rows: range, stage, run, inputs, progress, workers) -> Sequence[np.ndarray]:
    if not rows:
        return []
    before = _read(cache, unfinished)
    parts = [before] if before else []
    done = rows.start + sum(map(len, parts))
    batches, saved = 0, time.perf_counter()
    for part in answer_batches(stage, run, inputs, done, rows.stop, workers):
        parts.append(part)
        done, batches = done + len(part), batches + 1
        progress((done - rows.start) / len(rows))
        if done < rows.stop and (batches >= BATCHES or time.perf_counter() - saved >= SECONDS):
            parts = [Answers.join(parts)]
            _write(cache, unfinished, parts[0])
            batches, saved = 0, time.perf_counter()
    return Answers.join(parts).arrays


def _read(cache: Cache, key: str) -> Answers | None:
    found = cache.get(key)
    return found and Answers(array_from_bytes(found["classes.npy"]), array_from_bytes(found["probabilities.npy"]))


def _write(cache: Cache, key: str, answers: Answers) -> None:
    cache.put(
        key,
        {"classes.npy": array_to_bytes(answers.classes), "probabilities.npy": array_to_bytes(answers.probabilities)},
    )
