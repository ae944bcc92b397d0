"""Figures of a finished model, from its files: answers and seconds, side by side with the backbone alone."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import torch

from ..chain.operating_point import OperatingPoints
from ..chain.thresholds import point_thresholds
from ..core import distributed
from ..core.batching import named_batches
from ..core.cache import Cache
from ..core.hashing import digest
from ..cost import ROUND_SECONDS, Latency, measure_latency
from ..onnx.verification import run_session
from ..recipe.tuning import Tuning
from ..runtime.stages import FLOAT, Stage, StageSet
from ..sources.run_inputs import RunInputs
from ..targets.verification import File

# so many samples are enough for a steady mean: one at a time, and in batches
_SINGLES, _BATCHED = 128, 512
_AT_A_TIME = 64
#: Rounds in which everything that is compared takes its turn.
ROUNDS = 15
#: Seconds for one batch size, after which no further round starts
TIME_LIMIT = 10.0


@dataclass(frozen=True)
class Variant:
    """One way of answering: a session and, for a dynamic file, its thresholds (float32, one for each stage)."""

    session: onnxruntime.InferenceSession
    thresholds: np.ndarray | None = None


def measure(
    stages: StageSet, files: Mapping[str, File], points: OperatingPoints, run_inputs: RunInputs
) -> dict[str, Any]:
    """Measure accuracy and time of the backbone alone and of every operating point, on the test samples.

    Args:
        stages: Those in the files.
        files: ``static`` (the backbone alone, in float) and ``shipped``.
        points: With their costs.
        run_inputs: Backbone and test samples.

    Returns:
        ``rows`` (the backbone in float first), ``timing`` (how it was measured) and ``bytes`` (sizes of the
        backbone alone, of the file, and of its parts together).
    """
    split, backbone, chain = run_inputs.splits["test"], run_inputs.backbone, stages.chain
    tuning, names = run_inputs.recipe.dynamic_exit.tuning, backbone.input_names or tuple(run_inputs.example)
    feeds = split.feeds([*dict.fromkeys((*stages.input_names, *names))])
    variants = {f"backbone, {FLOAT}": Variant(files["static"].session)}
    if stages.numerics != FLOAT:
        variants[f"backbone, {stages.numerics}"] = Variant(
            files["shipped"].session, point_thresholds(points.backbone, chain)
        )
    for point in points.points:
        variants[point.name] = Variant(files["shipped"].session, point_thresholds(point, chain))
    seconds = time_variants(variants, feeds, sorted({1, tuning.batch_size}), tuning.threads)
    rows, base = [], seconds[f"backbone, {FLOAT}"]
    for key, variant in variants.items():
        point = points.by_name(key) if key in points.names else points.backbone
        logits, exits = answer(variant, feeds, len(chain))
        rows.append(
            {
                "name": key,
                "accuracy": float((logits.argmax(1) == split.labels).mean()),
                "cost_ratio": point.cost_ratio,
                "seconds_per_sample": {str(size): latency._asdict() for size, latency in seconds[key].items()},
                "speed_up": {str(size): base[size].median / each.median for size, each in seconds[key].items()},
                "exit_rates": {s: float((exits == i).mean()) for i, s in enumerate((*chain, "final"))},
            }
        )
    return {
        "rows": rows,
        "timing": {
            "runtime": stages.segments[0].part.runtime,
            "threads": tuning.threads,
            "machine": platform.machine(),
            "measure": f"median over rounds of {ROUND_SECONDS * 1e3:g} ms or more of the mean per sample, in turn, "
            "without waits for a processor; low and high: quartiles",
        },
        "bytes": {
            "static": files["static"].size,
            "model": files["shipped"].size,
            "parts": sum(stage.part.size for stage in stages.every),
        },
    }


def time_variants(
    variants: Mapping[str, Variant],
    feeds: Mapping[str, np.ndarray],
    batch_sizes: Sequence[int],
    threads: int | None = None,
) -> dict[str, dict[int, Latency]]:
    """Time variants on real samples, in turn within every round.

    Args:
        variants: By name.
        feeds: Inputs by name, each (N, ...); their mix of easy and hard samples decides what a dynamic file saves.
        batch_sizes: Samples in one call.
        threads: torch's, within an operator; those of onnxruntime's sessions are theirs.

    Returns:
        Seconds per sample by variant and batch size: median over rounds, with quartiles.
    """
    results: dict[str, dict[int, Latency]] = {name: {} for name in variants}
    for size in batch_sizes:
        slices = timed_slices(feeds, size)
        timed = sum(len(next(iter(each.values()))) for each in slices)
        calls = {name: passes(variant, slices) for name, variant in variants.items()}
        options = {"rounds": ROUNDS, "warmup": 1, "time_limit": TIME_LIMIT, "threads": threads}
        measured = measure_latency(calls, batch=timed, **options)
        for name, latency in measured.items():
            results[name][size] = latency
    return results


def timed_slices(feeds: Mapping[str, np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    """Return the samples that are timed in slices of a size, as many as a steady mean needs; all are of that size.

    Fewer samples than that make one shorter slice.
    """
    count = len(next(iter(feeds.values())))
    samples = min(count, _SINGLES if size == 1 else max(_BATCHED, size))
    starts = range(0, max(samples - samples % size, 1), size)
    return [{name: array[start : start + size] for name, array in feeds.items()} for start in starts]


def stage_costs(stages: StageSet, tuning: Tuning, cache: Cache) -> dict[str, Any]:
    """Return the cost of every stage in one unit, as records take it.

    Args:
        stages: All stages.
        tuning: Multiply-adds or seconds, and how these are measured.
        cache: Keeps what was measured.

    Returns:
        ``own_cost`` and ``prefix_cost`` by stage, and ``cost_unit``.
    """
    latency = tuning.cost == "latency"
    seconds = stage_seconds(stages, cache, tuning.batch_size, tuning.threads) if latency else {}
    own, prefix = stages.costs(lambda stage: seconds[stage.part.name] if latency else stage.macs)
    return {"own_cost": own, "prefix_cost": prefix, "cost_unit": "seconds" if latency else "macs"}


def stage_seconds(stages: StageSet, cache: Cache, batch_size: int = 64, threads: int = 1) -> dict[str, float]:
    """Measure each stage as it ships, alone; each once on a machine, so that all records agree.

    Args:
        stages: All stages.
        cache: Keeps what was measured.
        batch_size: Samples in one call.
        threads: What the stages' sessions use within an operator.

    Returns:
        Median seconds per sample by the part's name.
    """
    return time_stages({stage.part.name: stage for stage in stages.every}, cache, batch_size, threads)


def time_stages(stages: Mapping[str, Stage], cache: Cache, batch_size: int = 64, threads: int = 1) -> dict[str, float]:
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
    seconds = {name: value for name, value in known.items() if value is not None}
    if len(seconds) == len(keys):
        return seconds
    calls = {}
    for name, stage in stages.items():
        batch = tuple(torch.cat([tensor] * -(-batch_size // len(tensor)))[:batch_size] for tensor in stage.example)
        calls[name] = partial(stage.session, *batch)
    latencies = measure_latency(calls, batch=batch_size, rounds=ROUNDS, time_limit=TIME_LIMIT, threads=threads)
    measured = {name: each.median for name, each in latencies.items()}
    # what was known before says how slow the machine is at the moment
    slowness = sum(measured[name] for name in seconds) / sum(seconds.values()) if seconds else 1.0
    for name in keys.keys() - seconds.keys():
        seconds[name] = cache.keep(keys[name], measured[name] / slowness)
    return seconds


def answer(variant: Variant, feeds: Mapping[str, np.ndarray], final: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N, C) and exit index (N,); the backbone alone always answers with the final."""
    feeds, size = _taken(variant, feeds), _AT_A_TIME
    if variant.thresholds is not None:
        return run_session(variant.session, feeds, variant.thresholds, size)[:2]
    logits = np.concatenate([variant.session.run(None, each)[0] for each in named_batches(feeds, size)])
    return logits, np.full(len(logits), final)


def _taken(variant: Variant, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the inputs that a variant takes: a saver may take more than the backbone, or less."""
    return {value.name: feeds[value.name] for value in variant.session.get_inputs() if value.name in feeds}


def passes(variant: Variant, slices: Sequence[Mapping[str, np.ndarray]]) -> Callable[[], None]:
    """Return what runs a variant once over slices of samples."""
    extra = {} if variant.thresholds is None else {"thresholds": variant.thresholds}
    ready = [{**_taken(variant, each), **extra} for each in slices]

    def once() -> None:
        for batch in ready:
            variant.session.run(None, batch)

    return once
