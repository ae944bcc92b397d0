"""Seconds per sample of several callables side by side, robust against other programs that use the processor."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ModelError
from .waiting import Waits, read_waits

#: The least duration of one timing of a callable, in seconds: many ticks of the scheduler.
ROUND_SECONDS = 0.05
# a round counts as disturbed if other programs take more than this share of it
_MAX_DISTURBANCE = 0.02
# share of processor time that other threads of the process may take, and of wall time that may pass idle
_SINGLE_THREAD_TOLERANCE = 0.1
# how many measurements run now
_running = 0
# rounds at most, over those asked for, if rounds are disturbed
_MAX_ROUNDS_FACTOR = 2


class Latency(NamedTuple):
    """Seconds per sample: the median round, the quartiles around it, and the number of rounds."""

    median: float
    low: float
    high: float
    rounds: int


class _Round(NamedTuple):
    """One timing, all its calls together, in seconds."""

    elapsed: float
    thread: float  # processor time of the calling thread
    process: float  # processor time of all threads
    waits: Waits

    @property
    def disturbed(self) -> float:
        """Share of the time that other programs took."""
        return (self.waits.process + self.waits.stolen) / max(self.elapsed, 1e-9)


def measure_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    batch: int = 1,
    rounds: int = 30,
    warmup: int = 3,
    at_least: float | None = None,
    threads: int | None = None,
    synchronize: Callable[[], object] | None = None,
    time_limit: float | None = None,
) -> dict[str, Latency]:
    """Time several callables in turn, so that a slow moment of the machine affects all of them.

    In every round each is called for `at_least` seconds. If the system counts how long threads wait for a processor
    (Linux does), rounds in which that was more than 2 % are repeated, up to twice as many rounds in all; if still too
    few were undisturbed, the faster half of all rounds counts. For single-threaded work without pauses, processor time
    is used instead of wall time, so that waits for a processor are excluded.

    Args:
        calls: Name -> callable without arguments.
        batch: Samples per call.
        rounds: How many rounds count, at least 1.
        warmup: Calls before the clock starts.
        at_least: Seconds of one timing, in as many calls as it takes; `ROUND_SECONDS` if None, one call if 0.
        threads: torch's threads while measuring; unchanged if None. Other runtimes set their own.
        synchronize: Called before each reading of the clock, such as ``torch.cuda.synchronize``.
        time_limit: Seconds after which no further round starts (one always runs); no limit if None.

    Returns:
        Name -> seconds per sample.

    Raises:
        ModelError: Nothing to time, or a count below one.
    """
    if not calls or min(batch, rounds) < 1:
        raise ModelError(f"timing needs calls and counts from 1; got {len(calls)} calls, {batch=} {rounds=}")
    wait = synchronize or (lambda: None)
    at_least = ROUND_SECONDS if at_least is None else at_least
    made: dict[str, list[_Round]] = {name: [] for name in calls}
    started = time.perf_counter()
    with _noted(), using_threads(threads), torch.no_grad():
        for call in calls.values():
            for _ in range(warmup):
                call()
        repeats = {name: _repeats(call, wait, at_least) for name, call in calls.items()}
        for _ in range(_MAX_ROUNDS_FACTOR * rounds):
            for name, call in calls.items():
                made[name].append(_timed(call, wait, repeats[name]))
            if time_limit is not None and time.perf_counter() - started > time_limit:
                break
            if all(_undisturbed(each) >= rounds for each in made.values()):
                break
    return {name: _summary(each, rounds, repeats[name] * batch) for name, each in made.items()}


def is_measuring() -> bool:
    """Whether a measurement runs, which work in other threads would disturb."""
    return _running > 0


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    global _running
    _running += 1
    try:
        yield
    finally:
        _running -= 1


def _repeats(call: Callable[[], object], wait: Callable[[], object], at_least: float) -> int:
    """Return how many calls take so many seconds, doubled each time until the clock can tell."""
    count = 1
    while at_least > 0:
        seconds = _seconds([_timed(call, wait, count)])[0]
        if seconds >= at_least / 4:
            return max(1, math.ceil(count * at_least / seconds))
        count *= 2
    return 1


def _timed(call: Callable[[], object], wait: Callable[[], object], repeats: int) -> _Round:
    wait()
    before, begin = read_waits(), _now()
    for _ in range(repeats):
        call()
    wait()
    elapsed, thread, process = (now - then for now, then in zip(_now(), begin, strict=True))
    return _Round(elapsed, thread, process, read_waits().since(before))


def _now() -> tuple[float, float, float]:
    """Return wall time, processor time of this thread and processor time of all threads, in seconds."""
    return time.perf_counter(), time.thread_time(), time.process_time()


def _undisturbed(made: list[_Round]) -> int:
    return sum(each.disturbed <= _MAX_DISTURBANCE for each in made)


def _seconds(made: list[_Round]) -> list[float]:
    """Return the seconds of each round, as if it had a processor of its own.

    Whether the calls are single-threaded is decided on all rounds together: waits are read a moment before the clock.
    """
    elapsed = sum(each.elapsed for each in made)
    thread = sum(each.thread for each in made)
    process = sum(each.process for each in made)
    awake = elapsed - sum(each.waits.thread + each.waits.stolen for each in made)
    if process <= (1 + _SINGLE_THREAD_TOLERANCE) * thread and thread >= (1 - _SINGLE_THREAD_TOLERANCE) * awake:
        return [each.thread for each in made]
    return [each.elapsed for each in made]  # several threads, a device or pauses: only wall time is meaningful


def _summary(made: list[_Round], rounds: int, samples: int) -> Latency:
    """Return seconds per sample over the least disturbed rounds: disturbance adds time and never removes any."""
    seconds = np.array(_seconds(made)) / samples
    order = sorted(range(len(made)), key=lambda index: (made[index].disturbed > _MAX_DISTURBANCE, seconds[index]))
    kept = seconds[order[: min(rounds, max(_undisturbed(made), math.ceil(len(made) / 2)))]]
    low, median, high = np.percentile(kept, [25, 50, 75])
    return Latency(float(median), float(low), float(high), len(kept))


@contextlib.contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Set the number of torch's intra-op threads within a context.

    Args:
        count: Unchanged if None.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
