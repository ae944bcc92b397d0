"""What every stage costs per sample: multiply-adds, or seconds measured once on a machine."""

import os
import platform
from collections.abc import Mapping
from functools import partial

import torch

from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE
from ..core.cache import Cache
from ..core.hashing import digest
from ..cost import ChainCost, measure_latency
from ..recipe.tuning import Tuning
from ..runtime.stages import Stage, StageSet

#: Rounds in which everything that is compared takes its turn.
ROUNDS = 15
#: Seconds for one batch size, after which no further round is started.
TIME_LIMIT = 10.0


def stage_macs(stages: StageSet) -> ChainCost:
    """Return the multiply-adds of every stage."""
    return stages.costs(lambda stage: stage.macs)


def stage_costs(stages: StageSet, tuning: Tuning, cache: Cache) -> ChainCost:
    """Return the cost of every stage in the unit that the recipe asks for.

    Args:
        stages: All stages.
        tuning: Multiply-adds or seconds, and how these are measured.
        cache: Keeps what was measured.
    """
    if tuning.cost == "macs":
        return stage_macs(stages)
    seconds = stage_seconds(stages, cache, tuning.batch_size, tuning.threads)
    return stages.costs(lambda stage: seconds[stage.part.name], "seconds")


def stage_seconds(
    stages: StageSet, cache: Cache, batch_size: int = DEFAULT_BATCH_SIZE, threads: int = 1
) -> dict[str, float]:
    """Measure each stage alone as exported, once on a machine, so that all records agree.

    Args:
        stages: All stages.
        cache: Keeps what was measured.
        batch_size: Samples in one call.
        threads: What the stages' sessions use within an operator.

    Returns:
        Median seconds per sample by the part's name.
    """
    return time_stages({stage.part.name: stage for stage in stages.all_stages}, cache, batch_size, threads)


def time_stages(
    stages: Mapping[str, Stage], cache: Cache, batch_size: int = DEFAULT_BATCH_SIZE, threads: int = 1
) -> dict[str, float]:
    """Measure stages in turn, as `stage_seconds`, under names of the caller's.

    Args:
        stages: By name; those of one part are measured once.
        cache: Keeps what was measured.
        batch_size: Samples in one call.
        threads: What the stages' sessions use within an operator.

    Returns:
        Median seconds per sample by name.
    """
    machine = [platform.node(), platform.machine(), str(os.cpu_count()), str(batch_size), str(threads)]
    parts = {name: stage.part for name, stage in stages.items()}
    keys = {name: digest("seconds", part.content, part.runtime, machine) for name, part in parts.items()}
    return distributed.run_on_main(lambda: _seconds(stages, keys, cache, batch_size, threads))


def _seconds(
    stages: Mapping[str, Stage], keys: Mapping[str, str], cache: Cache, batch_size: int, threads: int
) -> dict[str, float]:
    known = {name: cache.value(key) for name, key in keys.items()}
    seconds = {name: float(value) for name, value in known.items() if value is not None}
    if len(seconds) == len(keys):
        return seconds
    calls = {}
    for name, stage in stages.items():
        batch = tuple(torch.cat([tensor] * -(-batch_size // len(tensor)))[:batch_size] for tensor in stage.example)
        calls[name] = partial(stage.session, *batch)
    latencies = measure_latency(calls, batch=batch_size, rounds=ROUNDS, time_limit=TIME_LIMIT, threads=threads)
    measured = {name: each.median for name, each in latencies.items()}
    # what was known before tells how slow the machine is at the moment
    slowness = sum(measured[name] for name in seconds) / sum(seconds.values()) if seconds else 1.0
    for name in keys.keys() - seconds.keys():
        seconds[name] = cache.keep(keys[name], measured[name] / slowness)
    return seconds
