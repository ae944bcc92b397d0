"""Seconds per sample, of anything callable, side by side."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ModelError


class Latency(NamedTuple):
    """Seconds per sample: the median round, the quartiles around it, and the number of rounds."""

    median: float
    low: float
    high: float
    rounds: int


def measure_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    batch: int = 1,
    rounds: int = 30,
    warmup: int = 3,
    repeats: int = 1,
    threads: int | None = None,
    synchronize: Callable[[], object] | None = None,
    time_limit: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Time several callables in turn, so that a slow moment of the machine hits them all.

    Args:
        calls: Name -> what to time, without arguments: a torch module on its device, an onnxruntime session ...
        batch: Samples that one call answers.
        rounds: How often each is timed, at least 1.
        warmup: Calls before the clock starts.
        repeats: Calls within one timing, for what is too short for the clock.
        threads: torch's threads while measuring; None leaves them. Other runtimes set their own.
        synchronize: Called before each reading of the clock, such as ``torch.cuda.synchronize``.
        time_limit: Seconds after which no further round is started (one is always run); None for no limit.
        clock: Gives seconds; ``time.process_time`` leaves out what other programs take, for work on one thread.

    Returns:
        Name -> seconds per sample.

    Raises:
        ModelError: Nothing to time, or a count below one.
    """
    if not calls or min(batch, rounds, repeats) < 1:
        raise ModelError(f"timing needs calls and counts from 1; got {len(calls)} calls, {batch=} {rounds=} {repeats=}")
    wait = synchronize or (lambda: None)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    with using_threads(threads), torch.no_grad():
        for call in calls.values():
            for _ in range(warmup):
                call()
        for _ in range(rounds):
            for name, call in calls.items():
                wait()
                begin = clock()
                for _ in range(repeats):
                    call()
                wait()
                seconds[name].append((clock() - begin) / repeats / batch)
            if time_limit is not None and time.perf_counter() - started > time_limit:
                break
    return {name: _summary(each) for name, each in seconds.items()}


def _summary(seconds: list[float]) -> Latency:
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return Latency(float(median), float(low), float(high), len(seconds))


@contextlib.contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Set torch's threads within operators for a while.

    Args:
        count: None leaves them.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
