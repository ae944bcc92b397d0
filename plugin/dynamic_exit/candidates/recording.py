"""Cached, resumable predictions of one stage on the calibration split."""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor

from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE
from ..core.cache import Cache
from ..core.file_archive import array_from_bytes, array_to_bytes
from ..core.hashing import digest
from ..runtime.recorder import Answers, answer_batches

#: What an interrupted recording loses at most: batches, or seconds if batches are slow.
BATCHES, SECONDS = 20, 10.0
_FILES = ("classes.npy", "probabilities.npy")


def record(
    cache: Cache,
    key: str,
    stage: str,
    run: Callable[..., Tensor],
    inputs: Sequence[np.ndarray],
    progress: Callable[[float], None] = lambda share: None,
    workers: int = 1,
) -> Answers:
    """Return what a stage answers, bit for bit the same whether it is run or found in the cache.

    Args:
        cache: Keeps the answers.
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
        rows = distributed.shard(len(inputs[0]), DEFAULT_BATCH_SIZE)
        unfinished = digest("unfinished", key, str(rows))

        def answer() -> Sequence[np.ndarray]:
            if not rows:
                return []
            before = _read(cache, unfinished)
            done = rows.start + (len(before) if before else 0)
            parts = answer_batches(stage, run, inputs, done, rows.stop, workers)
            return _collect(parts, before, rows, progress, lambda answers: _write(cache, unfinished, answers)).arrays

        found = Answers(*distributed.all_gather_rows(answer))
        _write(cache, key, found)
        with distributed.single_process():
            cache.drop(unfinished)
    progress(1.0)
    return found


def _collect(
    batches: Iterable[Answers],
    before: Answers | None,
    rows: range,
    progress: Callable[[float], None],
    save: Callable[[Answers], None],
) -> Answers:
    """Join the answers of all batches with those of an interrupted recording, and save them now and then."""
    parts = [before] if before else []
    done = rows.start + sum(map(len, parts))
    unsaved, saved = 0, time.perf_counter()
    for batch in batches:
        parts.append(batch)
        done, unsaved = done + len(batch), unsaved + 1
        progress((done - rows.start) / len(rows))
        if done < rows.stop and (unsaved >= BATCHES or time.perf_counter() - saved >= SECONDS):
            parts = [Answers.join(parts)]
            save(parts[0])
            unsaved, saved = 0, time.perf_counter()
    return Answers.join(parts)


def _read(cache: Cache, key: str) -> Answers | None:
    found = cache.get(key)
    return (
        Answers(array_from_bytes(found["classes.npy"]), array_from_bytes(found["probabilities.npy"])) if found else None
    )


def _write(cache: Cache, key: str, answers: Answers) -> None:
    cache.put(
        key,
        {"classes.npy": array_to_bytes(answers.classes), "probabilities.npy": array_to_bytes(answers.probabilities)},
    )
