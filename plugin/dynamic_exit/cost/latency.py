"""Seconds per sample, of anything callable, side by side, also while other programs want the processor."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ModelError
from .waiting import Waits, read_waits

#: Seconds that one timing of a callable takes at least: many ticks of the scheduler.
ROUND_SECONDS = 0.05
# share of a round that others may take of it until it counts as disturbed
_DISTURBED = 0.02
# share of the processor's time that other threads of the process may take, and of the clock's that may pass idly
_ALONE = 0.1
# rounds at most, over those asked for, where others disturb
_AGAIN = 2


class Latency(NamedTuple):
    """Seconds per sample: the median round, the quartiles around it, and the number of rounds."""

    median: float
    low: float
    high: float
    rounds: int


class _Round(NamedTuple):
    """Seconds of one timing, all calls in it together."""

    elapsed: float
    thread: float  # of a processor, in the calling thread
    process: float  # the same, in all threads
    waits: Waits

    @property
    def disturbed(self) -> float:
        """What others took, as a share."""
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
    """Time several callables in turn, so that a slow moment of the machine hits them all.

    In every round each is called for `at_least` seconds. Where the system counts how long threads wait for a processor
    (Linux does), a round in which that was more than 2 % is made again, up to twice as many rounds in all; where still
    too few were undisturbed, the faster half of all counts. What one thread works through without a pause costs the
    time of its processor, so that its waits for one are left out.

    Args:
        calls: Name -> what to time, without arguments: a torch module on its device, an onnxruntime session ...
        batch: Samples that one call answers.
        rounds: How many count of each, at least 1.
        warmup: Calls before the clock starts.
        at_least: Seconds of one timing, in as many calls as it takes; None is `ROUND_SECONDS`, 0 is one call.
        threads: torch's threads while measuring; None leaves them. Other runtimes set their own.
        synchronize: Called before each reading of the clock, such as ``torch.cuda.synchronize``.
        time_limit: Seconds after which no further round is started (one is always run); None for no limit.

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
    with using_threads(threads), torch.no_grad():
        for call in calls.values():
            for _ in range(warmup):
                call()
        repeats = {name: _repeats(call, wait, at_least) for name, call in calls.items()}
        for _ in range(_AGAIN * rounds):
            for name, call in calls.items():
                made[name].append(_timed(call, wait, repeats[name]))
            if time_limit is not None and time.perf_counter() - started > time_limit:
                break
            if all(_undisturbed(each) >= rounds for each in made.values()):
                break
    return {name: _summary(each, rounds, repeats[name] * batch) for name, each in made.items()}


def _repeats(call: Callable[[], object], wait: Callable[[], object], at_least: float) -> int:
    """How many calls take so many seconds; twice as many each time until the clock can tell."""
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
    taken = (now - then for now, then in zip(_now(), begin, strict=True))
    return _Round(*taken, read_waits().since(before))


def _now() -> tuple[float, float, float]:
    """Seconds on the clock, of processors in this thread, and in all."""
    return time.perf_counter(), time.thread_time(), time.process_time()


def _undisturbed(made: list[_Round]) -> int:
    return sum(each.disturbed <= _DISTURBED for each in made)


def _seconds(made: list[_Round]) -> list[float]:
    """What each round took, or would have with a processor of its own.

    All rounds together tell what the calls are like: counts of waits are read a moment before the clock.
    """
    elapsed, thread, process = (sum(each[place] for each in made) for place in range(3))
    awake = elapsed - sum(each.waits.thread + each.waits.stolen for each in made)
    if process <= (1 + _ALONE) * thread and thread >= (1 - _ALONE) * awake:
        return [each.thread for each in made]
    return [each.elapsed for each in made]  # several threads, a device, a pause: only the clock knows


def _summary(made: list[_Round], rounds: int, samples: int) -> Latency:
    """Seconds per sample over the rounds that others disturbed least: they take time, and never give any."""
    seconds = np.array(_seconds(made)) / samples
    order = sorted(range(len(made)), key=lambda index: (made[index].disturbed > _DISTURBED, seconds[index]))
    kept = seconds[order[: min(rounds, max(_undisturbed(made), math.ceil(len(made) / 2)))]]
    low, median, high = np.percentile(kept, [25, 50, 75])
    return Latency(float(median), float(low), float(high), len(kept))


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
